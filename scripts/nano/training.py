"""The training loop of the nano model: Muon on the matrices, AdamW on the rest, bfloat16 with float32 masters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

#: Token ids and whether the model is to say them, both of shape (rows, length).
Batch = tuple[NDArray[np.uint16], NDArray[np.bool_]]
Document = tuple[list[int], list[bool]]

_HEAD = 32
_WARMUP = 100
_DECAY = 0.35


@dataclass(frozen=True)
class Shape:
    """Of the model."""

    vocabulary: int = 2048
    hidden: int = 192
    layers: int = 6
    intermediate: int = 512


def new_model(shape: Shape, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights, in float32."""
    torch.manual_seed(seed)
    heads = shape.hidden // _HEAD
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=_HEAD,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


class Trainer:
    """Trains a model in place, step by step.

    Args:
        model: it is turned into bfloat16, and float32 weights are kept beside it.
        learning_rate: the peak; it rises over the first steps, and falls to zero over the last third.
        steps: of the whole training.
        attention: ``eager`` or ``sdpa``.
    """

    def __init__(self, model: LlamaForCausalLM, *, learning_rate: float, steps: int, attention: str) -> None:
        self._model = model
        self._learning_rate = learning_rate
        self._steps = steps
        model.set_attn_implementation(attention)
        self._masters = [parameter.detach().float().clone() for parameter in model.parameters()]
        model.to(torch.bfloat16)  # type: ignore[arg-type]
        self._weights = list(model.parameters())
        matrices = [parameter.dim() == 2 and "embed" not in name for name, parameter in model.named_parameters()]
        hidden = [master for master, matrix in zip(self._masters, matrices, strict=True) if matrix]
        rest = [master for master, matrix in zip(self._masters, matrices, strict=True) if not matrix]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._body = torch.compile(model.model, dynamic=False)
        self.step = 0

    def train(self, batch: Batch) -> tuple[float, float]:
        """One optimizer step; loss and accuracy over the tokens that the model is to say."""
        self._schedule()
        ids = torch.from_numpy(batch[0].astype(np.int64))
        said = torch.from_numpy(batch[1])[:, 1:]
        hidden = self._body(ids, use_cache=False).last_hidden_state
        logits = self._model.lm_head(hidden[:, :-1][said]).float()
        target = ids[:, 1:][said]
        loss = nn.functional.cross_entropy(logits, target)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update()
        self.step += 1
        return loss.item(), (logits.argmax(-1) == target).float().mean().item()

    def _schedule(self) -> None:
        rise = min(1.0, (self.step + 1) / _WARMUP)
        fall = min(1.0, (self._steps - self.step) / (_DECAY * self._steps))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate * rise * fall

    @torch.no_grad()
    def _update(self) -> None:
        for master, weight in zip(self._masters, self._weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        nn.utils.clip_grad_norm_(self._masters, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        for master, weight in zip(self._masters, self._weights, strict=True):
            weight.copy_(master)


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, documents: Sequence[Document]) -> float:
    """Share of the said tokens that the model finds most likely, given what was before."""
    right = total = 0
    for ids, said in documents:
        row = torch.tensor(ids)[None]
        asked = torch.tensor(said)[None, 1:]
        guess: Tensor = model(row).logits[:, :-1].argmax(-1)
        right += int((guess == row[:, 1:])[asked].sum())
        total += int(asked.sum())
    return right / total
