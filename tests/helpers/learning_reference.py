"""Small models and examples, and the plain reference that the fast path must agree with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedConfig

from fedse.adapters.state import AdapterState
from fedse.config import LoraConfig, ModelConfig
from fedse.learning.examples import Example
from fedse.models.base import BaseModel, load_base
from fedse.models.lora import LoraModel
from fedse.types import TokenRecord

VOCABULARY = 200
SMALL = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tiny_lora(*, dtype: str = "float32", **lora: object) -> LoraModel:
    """A LoRA on the tiny Llama, with an adapter that is not zero."""
    base = load_base(ModelConfig(name="tiny", device="cpu", dtype=dtype))  # type: ignore[arg-type]
    return with_random_adapter(LoraModel(base, LoraConfig(**({"rank": 4} | lora))))


def lora_on(config: PreTrainedConfig) -> LoraModel:
    """The same on a random model of another family."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    base = BaseModel(model=model, tokenizer=None, fingerprint="f", name="n")  # type: ignore[arg-type]
    return with_random_adapter(LoraModel(base, LoraConfig(rank=4)))


def with_random_adapter(lora: LoraModel, scale: float = 0.05) -> LoraModel:
    generator = np.random.default_rng(1)
    names = lora.initial_state(0).tensors
    tensors = {name: generator.normal(0, scale, array.shape).astype(np.float32) for name, array in names.items()}
    lora.load(AdapterState(tensors, lora.meta))
    return lora


def records(lengths: Sequence[int], *, shared: int = 0, seed: int = 0) -> list[TokenRecord]:
    """Records of given lengths that share their first tokens; three agent turns each, the last one at the end."""
    generator = np.random.default_rng(seed)
    opening = generator.integers(3, VOCABULARY, shared).tolist()
    made = []
    for length in lengths:
        ids = opening + generator.integers(3, VOCABULARY, length - shared).tolist()
        middle = (shared + length) // 2
        spans = ((shared + 2, shared + 4), (middle, middle + 2), (length - 3, length))
        made.append(TokenRecord(tuple(ids), spans, "t"))
    return made


def examples(records: Sequence[TokenRecord]) -> list[Example]:
    return [Example(record) for record in records]


def reference_loss(lora: LoraModel, batch: Sequence[TokenRecord]) -> torch.Tensor:
    """The textbook computation: padding, an attention mask, full logits, peft's own layers; mean over agent tokens."""
    longest = max(len(record.ids) for record in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    seen = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, record in enumerate(batch):
        length = len(record.ids)
        ids[row, :length] = torch.tensor(record.ids)
        seen[row, :length] = 1
        for start, end in record.spans:
            labels[row, start:end] = ids[row, start:end]
    logits = lora.base.model(input_ids=ids, attention_mask=seen).logits[:, :-1].float()
    return functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def gradients(lora: LoraModel) -> list[torch.Tensor]:
    """The adapter's gradients, taken away from it."""
    found = []
    for parameter in lora.trainable():
        assert parameter.grad is not None
        found.append(parameter.grad)
        parameter.grad = None
    return found


def assert_same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: float) -> None:
    """Element-wise equal within ``tolerance``, and not trivially so."""
    assert sum(float(tensor.abs().sum()) for tensor in expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
