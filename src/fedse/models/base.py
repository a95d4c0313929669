"""Loading a frozen base model: one of fedse's own, a GGUF file, a local folder or a Hugging Face id."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from fedse.config import ModelConfig
from fedse.errors import ModelError, boundary
from fedse.models import catalogue
from fedse.models.plain import embedding_rows
from fedse.models.tiny import tiny_model, tiny_tokenizer

_SAMPLES_PER_TENSOR = 1024


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model with its tokenizer.

    Attributes:
        model: in evaluation mode, no parameter requires a gradient.
        tokenizer: with a chat template.
        fingerprint: identifies the weights, whatever dtype they were loaded in; adapters carry it.
        name: the name it was asked for by.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    name: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.model.dtype


def load_base(config: ModelConfig) -> BaseModel:
    """Load the base model that a run names.

    Raises:
        ModelError: if it is not there, is damaged, its tokenizer has no chat template, or has ids that the model lacks.
    """
    device = _device(config.device)
    dtype = _dtype(config.dtype, device)
    tokenizer = load_tokenizer(config)
    if config.name == "tiny":
        # In float32 whatever the hardware: the tiny model exists to test mechanics exactly.
        model: PreTrainedModel = tiny_model()
        if config.dtype != "auto":
            model.to(dtype)  # type: ignore[arg-type]
    else:
        with _loading(config.name):
            model = AutoModelForCausalLM.from_pretrained(catalogue.resolve(config.name), dtype=dtype)
    check_ids(tokenizer, embedding_rows(model), config.name)
    model.to(device)  # type: ignore[arg-type]
    model.eval()  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    return BaseModel(model=model, tokenizer=tokenizer, fingerprint=fingerprint(model), name=config.name)


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model, without its weights; errors as of :func:`load_base`."""
    # The bars of transformers would tear logs and our own, here and wherever the model is saved later.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if config.name == "tiny":
        return tiny_tokenizer()
    with _loading(config.name):
        place = catalogue.resolve(config.name)
        # AutoTokenizer would take the class of the model's family, and that would split text in its own way.
        loader = PreTrainedTokenizerFast if catalogue.is_converted(place) else AutoTokenizer
        tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(place)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {config.name!r} has no chat template",
            "use an instruction-tuned model, or set the template in its tokenizer_config.json",
        )
    return tokenizer


def check_ids(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Make sure that a model has an embedding for every id of its tokenizer.

    Raises:
        ModelError: if it has not.
    """
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise ModelError(
            f"the tokenizer of {name!r} has token ids up to {highest}, but the model has embeddings for {rows} ids, "
            f"0 to {rows - 1}",
            "take the tokenizer that the model was made with, or resize and train the model's embeddings",
        )


def _loading(name: str) -> AbstractContextManager[None]:
    """Attributes what goes wrong in the block."""
    return boundary(ModelError, f"cannot load the base model {name!r}", catalogue.mend_for(name))


def fingerprint(model: PreTrainedModel) -> str:
    """Sixteen hex digits over tensor names, shapes and evenly spaced weights.

    Weights are compared as bfloat16, so that a checkpoint has one fingerprint in whatever dtype it is loaded; sampling
    keeps it under a second for models of many gigabytes.
    """
    hasher = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        stride = max(1, flat.numel() // _SAMPLES_PER_TENSOR)
        sample = flat[::stride].to(torch.bfloat16).to(torch.float32).cpu().numpy()
        hasher.update(json.dumps([name, list(tensor.shape)]).encode())
        hasher.update(np.ascontiguousarray(sample).tobytes())
    return hasher.hexdigest()[:16]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"model.device is {name!r}, but torch sees no GPU", "set model.device=auto or cpu")
    with boundary(ModelError, f"unknown device {name!r}", "set model.device to auto, cpu or cuda"):
        return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        name = "bfloat16" if has_fast_bfloat16(device) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices natively; elsewhere bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def cpu_flags() -> frozenset[str]:
    """The processor's feature flags where the system tells them (Linux); empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line.split(":", 1)[1] for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, "").split())


def arithmetic(config: ModelConfig) -> str:
    """What else than the libraries decides how numbers are rounded: dtype, device and the processor's vector unit.

    Nothing is loaded; a device that is not there is a ``ModelError``.
    """
    device = _device(config.device)
    dtype = torch.float32 if (config.name, config.dtype) == ("tiny", "auto") else _dtype(config.dtype, device)
    unit = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return f"{str(dtype).removeprefix('torch.')} on {device.type} ({unit})"
