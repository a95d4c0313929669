"""What rollouts and updates assume of a model: plain causal attention, and logits from the output embedding alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

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


def output_embedding(model: PreTrainedModel) -> nn.Linear:
    """The linear layer from final hidden states to logits; a model that has none is a ``ModelError``."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output embedding (found {type(head).__name__})",
            "take a causal language model with a plain language-model head",
        )
    return head


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Make sure that the logits are the output embedding of the final hidden states and nothing more.

    Some families scale or cap their logits afterwards; rollouts would silently play, and updates train, another model.

    Raises:
        ModelError: if they differ on a probe.
    """
    probe = torch.arange(4, device=model.device)[None]
    expected = model(input_ids=probe, use_cache=False).logits.float()
    found = output_embedding(model)(model.base_model(input_ids=probe, use_cache=False).last_hidden_state).float()
    tolerance = 1e-3 * float(expected.abs().nan_to_num().max())
    if not torch.allclose(found, expected, rtol=1e-3, atol=tolerance, equal_nan=True):
        raise ModelError(
            f"{type(model).__name__} changes its logits after the output embedding (scaling or soft-capping)",
            "take a base model with a plain language-model head (Llama, Qwen2, Qwen3, Mistral, …)",
        )
