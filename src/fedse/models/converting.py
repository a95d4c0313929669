"""From a GGUF file to a model's folder: configuration, weights in bfloat16, tokenizer.

transformers leaves out what it does not know of a GGUF file, and says nothing.  The model would still talk, only worse.
So every weight must arrive, and what the file says of positions must be in the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    modeling_gguf_pytorch_utils,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.utils import logging

from fedse.errors import ModelError, boundary
from fedse.models import gguf_tokenizer
from fedse.models.catalogue import NOTE_NAME
from fedse.models.gguf_file import GgufFile
from fedse.storage import atomic_directory, share, write_json

_FOLDER = "name the model's folder in Hugging Face layout instead of the GGUF file"
#: One factor for each frequency of the positions, as Llama 3.1 and later have.
_FREQUENCIES = "rope_freqs.weight"


def convert(
    file: GgufFile,
    folder: Path,
    note: dict[str, Any],
    *,
    inspect: Callable[[PreTrainedTokenizerFast], object] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Convert a GGUF file; the folder is there as a whole or not at all.

    Args:
        file: the head of the file.
        folder: made; ``from_pretrained`` takes it.
        note: written into the folder's ``fedse.json``, with what was found.
        inspect: looks at the tokenizer before the weights are read; what it raises ends the conversion.
        progress: told in words what is being done.

    Raises:
        ModelError: if transformers does not know the architecture, or does not keep all that the file says of weights,
            positions or tokenizer.
        StorageError: if the folder cannot be written.
    """
    with atomic_directory(folder) as scratch:
        progress("checking configuration and tokenizer")
        config = configuration(file)
        gguf_tokenizer.rebuild(file).save_pretrained(scratch)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(scratch)  # what is checked is what will be loaded
        found = gguf_tokenizer.check(file, tokenizer)
        inspect(tokenizer)
        progress(f"converting {sum(map(math.prod, file.tensors.values())) / 1e6:,.0f} million weights")
        weights = _weights(file, config)
        config.dtype = torch.bfloat16
        config.save_pretrained(scratch)
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        share(scratch)
        stored = {"architecture": file.architecture, "weights": sorted(file.types), "tokenizer": asdict(found)}
        write_json(scratch / NOTE_NAME, note | stored)


def configuration(file: GgufFile) -> PreTrainedConfig:
    """The configuration of a GGUF file's model; takes seconds for a large vocabulary.

    Raises:
        ModelError: if transformers does not know the architecture, or how the file's positions are scaled.
    """
    what = f"transformers cannot read the architecture {file.architecture!r} of {file.path}"
    with boundary(ModelError, what, _FOLDER):
        config: PreTrainedConfig = AutoConfig.from_pretrained(file.path.parent, gguf_file=file.path.name)
        said = {key.partition(".rope.")[2]: value for key, value in file.metadata.items() if ".rope." in key}
        if (kind := said.get("scaling.type", "none")) != "none":
            raise ModelError(f"{file.path} scales its positions ({kind}), which transformers leaves out", _FOLDER)
        rotated = said.get("dimension_count")
        if rotated is not None and rotated != (size := _head_size(config)):
            raise ModelError(
                f"{file.path} turns {rotated} of {size} dimensions of a head, which transformers leaves out", _FOLDER
            )
        if _FREQUENCIES in file.tensors:
            _scale_as_llama3(file, config)
    return config


def _scale_as_llama3(file: GgufFile, config: PreTrainedConfig) -> None:
    """Find the scaling that a file tells by its factors alone; Llama's own is the only one in use."""
    [stored] = [tensor for tensor in GGUFReader(file.path).tensors if tensor.name == _FREQUENCIES]
    factors = torch.tensor(dequantize(stored.data, stored.tensor_type)).flatten()
    size = _head_size(config)
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    config.rope_parameters |= {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if not torch.allclose(scaled, plain / factors, rtol=1e-4):
        raise ModelError(f"{file.path} scales its positions by factors that are not Llama 3's", _FOLDER)


def _head_size(config: PreTrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _weights(file: GgufFile, config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """All weights in bfloat16, under the names of transformers."""
    with boundary(ModelError, f"cannot convert {file.path}", _FOLDER), _quiet():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            file.path.parent, gguf_file=file.path.name, config=config, dtype=torch.bfloat16
        )
    stored = sum(math.prod(shape) for name, shape in file.tensors.items() if name != _FREQUENCIES)
    arrived = sum(parameter.numel() for parameter in model.parameters())
    if arrived != stored:
        raise ModelError(
            f"transformers makes a model of {arrived:,} weights of the {stored:,} weights in {file.path}", _FOLDER
        )
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    return {
        name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars, and without its advice on weights that stay quantized, which here they do not."""
    level = logging.get_verbosity()
    reader: Any = modeling_gguf_pytorch_utils
    bar = reader.tqdm
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    reader.tqdm = lambda items, **_: items  # it has no switch
    try:
        yield
    finally:
        reader.tqdm = bar
        logging.set_verbosity(level)
