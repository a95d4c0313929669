"""Whether a run's base model would be taken, told without its weights."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from fedse.config import RunConfig
from fedse.errors import ModelError, boundary
from fedse.models import catalogue
from fedse.models.base import BaseModel, check_ids, load_tokenizer
from fedse.models.gguf_file import is_gguf
from fedse.models.tiny import tiny_model
from fedse.sites.shared_model import SharedModel

_VOCABULARY = 256
#: What a copy has at most, where the model has more; none of it changes what is computed with it.
_AT_MOST = {"intermediate_size": 64, "moe_intermediate_size": 16, "vocab_size_per_layer_input": _VOCABULARY}


def check_model(config: RunConfig) -> str:
    """Try a run's tokenizer, and a small random copy of its base model, as the run would try the model itself.

    Nothing is fetched.  The copy has the widths of attention and the kinds of layers that the model has.

    Returns:
        Why that could not be done, in words; empty if it was.

    Raises:
        ModelError, AdapterError, ConfigError: as :meth:`fedse.sites.shared_model.SharedModel.on`.
    """
    name = config.model.name
    shapes = tiny_model().config if name == "tiny" else _configuration(name)
    if shapes is None:
        return "its files are not on this machine"
    tokenizer = load_tokenizer(config.model)
    check_ids(tokenizer, shapes.get_text_config().vocab_size, name)
    try:
        model = _copy(shapes)
    except Exception as cause:  # a family can have rules of its own for its sizes
        return f"no small copy of it can be made ({type(cause).__name__}: {cause})"
    SharedModel.on(BaseModel(model=model, tokenizer=tokenizer, fingerprint="", name=name), config)
    return ""


def _configuration(name: str) -> PreTrainedConfig | None:
    """The configuration of a model, if it is on this machine."""
    if any(info.name == name and not info.installed for info in catalogue.installed()):
        return None
    if is_gguf(name) and catalogue.conversion(Path(name).expanduser()) is None:
        return None
    place = catalogue.resolve(name)
    with boundary(ModelError, f"cannot read the configuration of the base model {name!r}", catalogue.mend_for(name)):
        try:
            found: PreTrainedConfig = AutoConfig.from_pretrained(place, local_files_only=True)
        except OSError:
            if Path(place).is_dir():
                raise
            return None
    return found


def _copy(config: PreTrainedConfig) -> PreTrainedModel:
    """A random model of the same kind: the first layers up to one of each kind, a small vocabulary, narrow MLPs."""
    small = deepcopy(config)
    text = small.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ())
    whole = text.num_hidden_layers
    layers = min(whole, max([1, *map(kinds.index, kinds)]) + 1)
    facts = text.to_dict()
    text.num_hidden_layers = layers
    for field, value in facts.items():
        if isinstance(value, list) and len(value) == whole:
            setattr(text, field, value[:layers])
        elif field in _AT_MOST and isinstance(value, int):
            setattr(text, field, min(value, _AT_MOST[field]))
    text.vocab_size = _VOCABULARY
    text.pad_token_id = text.bos_token_id = text.eos_token_id = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(small, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.eval()  # type: ignore[no-untyped-call]
    return model.requires_grad_(False)
