"""The key-value cache of a rollout: one slot per running episode, and the attention that reads it.

A forward pass takes the new tokens of all slots flattened into one row: single tokens of slots that decode and longer
pieces of slots that read an observation, in any mix.  A :class:`SlotPlan` says which token belongs where.  The model
code of transformers runs unchanged: the cache is a ``Cache`` subclass that only hands the new keys and values on, the
attention is registered with ``AttentionInterface`` and both stores and reads, and the plan reaches it through a
context variable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.cache_utils import Cache

from fedse.errors import ModelError
from fedse.models.plain import as_wide, refuse_variants

ATTENTION_NAME = "fedse_slots"
_PLAIN = "take a model family with the same attention in all layers (Llama, Qwen2, Qwen3, Mistral, …)"


class AttentionShape(NamedTuple):
    """What a cache needs to know of a model."""

    layers: int
    heads: int
    kv_heads: int
    dim: int


def attention_shape(config: PreTrainedConfig) -> AttentionShape:
    """Layers, heads of queries and of keys, and numbers of a head; a ``ModelError`` if layers differ in them."""
    config = config.get_text_config()
    try:
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        # Where keys have a width of their own (DeepSeek-V3), each head has its own, too.
        wide = getattr(config, "qk_head_dim", None)
        dim = int(wide or getattr(config, "head_dim", None) or config.hidden_size // heads)
        return AttentionShape(int(config.num_hidden_layers), heads, heads if wide else kv_heads, dim)
    except Exception as cause:  # configurations by layer raise their own
        raise ModelError(f"a {config.model_type} tells no one shape of attention for all its layers", _PLAIN) from cause


@dataclass(frozen=True)
class SlotPlan:
    """Where the tokens of one forward pass belong.

    Attributes:
        cache: of the slots.
        pieces: new tokens of a slot, which lie side by side: of each piece its first row, how many tokens it has, its
            slot, and how many tokens the slot has already, shape (pieces, 4).  Rows after the last piece mean nothing.
        context: tokens that a slot may come to hold.
    """

    cache: SlotCache
    pieces: npt.NDArray[np.int64]
    context: int


class SlotCache(Cache):
    """Keys and values of all slots.

    Attributes:
        shape: of the model's attention.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(layers=[])
        self.shape = attention_shape(config)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hand new keys and values, shape (1, kv heads, N, head dim), on to :meth:`attend`, which stores them."""
        return key_states, value_states

    @abstractmethod
    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of a slot into another one."""

    @abstractmethod
    def begin(self, plan: SlotPlan) -> None:
        """Prepare for a forward pass."""

    @abstractmethod
    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Store a layer's new keys and values, then let every new token look at its slot up to itself.

        Args:
            layer: which.
            query: shape (N, heads, head dim).
            key: shape (N, kv heads, head dim).
            value: like ``key``.
            scaling: multiplies the scores.

        Returns:
            Of the query's shape.
        """


#: Not handed down as a keyword: not every family passes on what it does not know.
_PLAN: ContextVar[SlotPlan] = ContextVar("plan")


@contextmanager
def planned(plan: SlotPlan) -> Iterator[None]:
    """Inside the block forward passes follow this plan."""
    before = _PLAN.set(plan)
    try:
        yield
    finally:
        _PLAN.reset(before)


def slot_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  # the plan says who may look where
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of flattened new tokens over the slots' caches.

    ``query`` has shape (1, heads, N, head dim); ``key`` and ``value`` are those of the new tokens, each of shape (1, kv
    heads, N, head dim); ``value`` may be narrower.  ``scaling`` multiplies the scores, 1/√d by default.  Which token
    belongs where is said by the plan, see :func:`planned`.  Options that change the attention are refused.

    Returns:
        Output of shape (1, N, heads, head dim), and no weights.

    Raises:
        ModelError: if the model needs something else than plain causal attention.
    """
    plan = _PLAN.get()
    refuse_variants(module, options, longest=plan.context, work="a rollout")
    layer: int = module.layer_idx  # type: ignore[assignment]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    width = value.shape[-1]
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, as_wide(value, key)))
    expected, found = plan.cache.shape, (query.shape[1], *key.shape[1:])
    if found != expected[1:]:  # where memory lies is computed from it
        raise ModelError(
            f"{type(module).__name__} has {found[0]} heads of queries and {found[1]} of keys, {found[2]} wide, where "
            f"its configuration says {expected.heads}, {expected.kv_heads} and {expected.dim}",
            _PLAIN,
        )
    mixed = plan.cache.attend(layer, query, key, value, scale)
    return mixed[None, ..., :width], None


AttentionInterface.register(ATTENTION_NAME, slot_attention)
