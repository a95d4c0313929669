"""What rollouts and updates assume of a model: plain causal attention, and a linear output embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from fedse.errors import ModelError


def refuse_variants(module: nn.Module, options: Mapping[str, Any], *, longest: int, work: str) -> None:
    """Make sure that an attention layer asks for plain causal attention.

    Args:
        module: the layer.
        options: the keywords with which it called its attention function.
        longest: tokens of the longest sequence; a sliding window that holds them all is none.
        work: who computes, for the error.

    Raises:
        ModelError: if it asks for more.
    """
    window = options.get("sliding_window")
    found = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if options.get("dropout"):
        found.append("attention dropout")
    if window is not None and longest > window:
        found.append(f"a sliding window of {window} tokens, shorter than a trajectory of {longest}")
    if found:
        raise ModelError(
            f"{type(module).__name__} asks for {', '.join(found)}; {work} computes plain causal attention",
            "take a base model with plain causal attention, or shorter trajectories (a smaller rollout.max_context) "
            "where the window is the reason",
        )


def as_wide(value: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Values with zeros up to the width of the keys, which some families have wider (DeepSeek-V3)."""
    missing = key.shape[-1] - value.shape[-1]
    return functional.pad(value, (0, missing)) if missing else value


def output_embedding(model: PreTrainedModel) -> nn.Linear:
    """The linear layer from final hidden states to logits; a model that has none is a ``ModelError``."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output embedding (found {type(head).__name__})",
            "take a causal language model with a plain language-model head",
        )
    return head


def embedding_rows(model: PreTrainedModel) -> int:
    """Token ids that a model has."""
    weight: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    return int(weight.shape[0])


def scaled(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Final hidden states, times the factor that the model gives its logits (Granite, Cohere)."""
    config = model.config.get_text_config()
    factor = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
    return hidden if factor == 1 else hidden * factor


def context_limit(config: PreTrainedConfig) -> int | None:
    """Tokens up to which a model computes alike, whatever the length; ``None`` if it names no limit.

    Beyond it some models leave positions out of sight, or turn all positions in another way, those in the cache
    included.
    """
    config = config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "attention_chunk_size")]
    turned = getattr(config, "rope_parameters", None) or {}
    for rope in [turned, *(each for each in turned.values() if isinstance(each, dict))]:
        if rope.get("rope_type") in ("dynamic", "longrope"):
            limits.append(rope.get("original_max_position_embeddings"))
    return min((int(limit) for limit in limits if limit), default=None)
