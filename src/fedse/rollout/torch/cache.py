"""The key-value cache of a rollout: one slot per running episode, and the attention that reads it.

A forward pass takes the new tokens of all slots flattened into one row: single tokens of slots that decode and longer
pieces of slots that read an observation, in any mix.  A :class:`SlotPlan` says which token belongs where.  The model
code of transformers runs unchanged: the cache is a ``Cache`` subclass, the attention is registered with
``AttentionInterface``, and the plan reaches it as a keyword argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.cache_utils import Cache

from fedse.models.plain import refuse_variants

ATTENTION_NAME = "fedse_slots"
#: The cache grows by whole chunks, so that every layer's tensor stays contiguous (strided batches are copied by bmm).
CHUNK = 64


@dataclass(frozen=True)
class Segment:
    """New tokens ``start:end`` of the flattened row belong to ``slot``.

    ``bias`` is 0 where a token may look and -inf elsewhere, shape (new tokens, cached and new tokens).
    """

    start: int
    end: int
    slot: int
    bias: torch.Tensor


@dataclass(frozen=True)
class SlotPlan:
    """Where the tokens of one forward pass belong.

    Attributes:
        slots, positions: slot and position of every token, each shape (N,).
        single_rows, single_slots: rows of the tokens that come alone for their slot, and those slots, shape (n,).
        bias: 0 where a decoding slot may look and -inf elsewhere, shape (slots in use, longest of them), the model's
            dtype.
        pieces: the longer segments.
        context: tokens that a slot may come to hold.
    """

    slots: torch.Tensor
    positions: torch.Tensor
    single_rows: torch.Tensor
    single_slots: torch.Tensor
    bias: torch.Tensor
    pieces: tuple[Segment, ...]
    context: int


class SlotCache(Cache):
    """Keys and values of all slots, per layer, shape (slots, kv heads, capacity, head dim)."""

    def __init__(self, config: PreTrainedConfig, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(layers=[])
        heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.capacity = 0
        self.slots = slots
        self.keys, self.values = (
            [torch.empty((slots, heads, 0, dim), device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
            for _ in range(2)
        )
        #: By which the next forward pass is stored.
        self.plan: SlotPlan | None = None

    def reserve(self, length: int) -> None:
        """Make room for ``length`` positions in every slot."""
        if length <= self.capacity:
            return
        capacity = -(-length // CHUNK) * CHUNK
        for tensors in (self.keys, self.values):
            for index, old in enumerate(tensors):
                # Zeros, not garbage: masked positions are multiplied by zero weights, and 0 · NaN is NaN.
                new = old.new_zeros((self.slots, old.shape[1], capacity, old.shape[3]))
                new[:, :, : self.capacity] = old
                tensors[index] = new
        self.capacity = capacity

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of a slot into another one."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[target, :, :length] = tensor[source, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values, shape (1, kv heads, N, head dim), and return the layer's whole tensors."""
        assert self.plan is not None
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        where = (self.plan.slots, slice(None), self.plan.positions)
        keys[where] = key_states[0].transpose(0, 1)
        values[where] = value_states[0].transpose(0, 1)
        return keys, values


def slot_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  # the plan says who may look where
    scaling: float,
    slot_plan: SlotPlan,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of flattened new tokens over the slots' caches.

    ``query`` has shape (1, heads, N, head dim); ``key`` and ``value`` are the layer's caches, each of shape (slots,
    kv heads, capacity, head dim).  ``scaling`` multiplies the scores.  Options that change the attention are refused.

    Returns:
        Output of shape (1, N, heads, head dim), and no weights.

    Raises:
        ModelError: if the model needs something else than plain causal attention.
    """
    refuse_variants(module, options, longest=slot_plan.context, work="a rollout")
    heads, tokens, dim = query.shape[1:]
    rows = query[0].transpose(0, 1)
    output = torch.empty_like(rows, memory_format=torch.contiguous_format)
    if len(slot_plan.single_rows):
        output[slot_plan.single_rows] = _decode(rows, key, value, scaling, slot_plan)
    for piece in slot_plan.pieces:
        total = piece.bias.shape[1]
        asked = query[0, :, piece.start : piece.end]
        keys, values = (states[piece.slot, :, :total] for states in (key, value))
        output[piece.start : piece.end] = _read(asked, keys, values, piece.bias, scaling).transpose(0, 1)
    return output.view(1, tokens, heads, dim), None


def _read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention of a longer piece of one slot, shape (heads, new, dim)."""
    (heads, new, dim), kv_heads = query.shape, key.shape[0]
    groups = heads // kv_heads
    if query.dtype == torch.float32 and query.device.type == "cpu":
        mixed = nn.functional.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=bias, scale=scaling, enable_gqa=groups > 1
        )
        return mixed[0]
    # In bfloat16 torch's own is up to two times slower than this on CPUs, and on GPUs it has no kernel for a mask and
    # groups.  Queries of one group share their keys: (kv heads, groups · new, dim) against (kv heads, total, dim).
    asked = query.reshape(kv_heads, groups * new, dim)
    scores = torch.baddbmm(bias.repeat(groups, 1), asked, key.transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.bmm(weights, value).view(heads, new, dim)


def _decode(rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, plan: SlotPlan) -> torch.Tensor:
    """Attention of one token per slot, shape (n, heads, dim).

    Done for all slots in use at once, idle ones included: one large contiguous product beats gathering the caches.
    """
    (used, length), (kv_heads, capacity, dim) = plan.bias.shape, key.shape[1:]
    groups = rows.shape[1] // kv_heads
    asked = rows.new_zeros((used, rows.shape[1], dim))
    asked[plan.single_slots] = rows[plan.single_rows]
    keys, values = (states[:used].view(used * kv_heads, capacity, dim)[:, :length] for states in (key, value))
    bias = plan.bias.repeat_interleave(kv_heads, dim=0).unsqueeze(1)
    queries = asked.view(used * kv_heads, groups, dim)
    scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(rows.dtype)
    mixed = torch.bmm(weights, values).view(used, rows.shape[1], dim)
    return mixed[plan.single_slots]


AttentionInterface.register(ATTENTION_NAME, slot_attention)
