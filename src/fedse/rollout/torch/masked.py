"""Attention over the slots' caches in torch's own operations: on a GPU, and where there is no kernel for the CPU."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedConfig

from fedse.rollout.torch.cache import SlotCache, SlotPlan


class MaskedCache(SlotCache):
    """Keys and values, and masks over them.

    All slots that decode go through one product, as long as the longest of them, so here a row may depend in its last
    bits on which others there are.
    """

    def __init__(
        self, config: PreTrainedConfig, slots: int, context: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config)
        shape = self.shape
        # Zeros, not garbage: masked positions are multiplied by zero weights, and 0 · NaN is NaN.
        self._states = torch.zeros(
            (shape.layers, 2, slots, shape.kv_heads, context, shape.dim), device=device, dtype=dtype
        )
        self._slots = self._positions = self._single_rows = self._single_slots = torch.empty(0, dtype=torch.long)
        self._bias = torch.empty(0)
        self._pieces: list[tuple[int, int, int, torch.Tensor]] = []

    def copy_slot(self, source: int, target: int, length: int) -> None:  # noqa: D102
        self._states[:, :, target, :, :length] = self._states[:, :, source, :, :length]

    def begin(self, plan: SlotPlan) -> None:  # noqa: D102
        device = self._states.device
        slots: list[int] = []
        positions: list[int] = []
        single: list[tuple[int, int, int]] = []
        self._pieces = []
        for start, count, slot, past in plan.pieces.tolist():
            slots += [slot] * count
            positions += range(past, past + count)
            if count == 1:
                single.append((start, slot, past + 1))
            else:
                seen = torch.full((count, past + count), float("-inf"), device=device, dtype=self._states.dtype)
                self._pieces.append((start, start + count, slot, seen.triu_(past + 1)))
        self._slots, self._positions = (torch.tensor(values, device=device) for values in (slots, positions))
        rows = torch.tensor(single, dtype=torch.long, device=device).view(-1, 3)
        self._single_rows, self._single_slots = rows[:, 0], rows[:, 1]
        used = 1 + max((slot for _, slot, _ in single), default=-1)
        # A slot that does not decode now still needs one finite score, or its unused softmax row would be NaN.
        lengths = torch.ones(used, dtype=torch.long, device=device).index_copy_(0, rows[:, 1], rows[:, 2])
        longest = max((length for *_, length in single), default=0)
        hidden = torch.arange(longest, device=device).unsqueeze(0) >= lengths.unsqueeze(1)
        bias = torch.zeros(hidden.shape, device=device, dtype=self._states.dtype)
        self._bias = bias.masked_fill_(hidden, float("-inf"))

    def attend(  # noqa: D102
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        keys, values = self._states[layer]
        keys[self._slots, :, self._positions] = key[: len(self._slots)]
        values[self._slots, :, self._positions] = value[: len(self._slots)]
        output = query.new_zeros(query.shape)
        if len(self._single_rows):
            output[self._single_rows] = self._decode(query, keys, values, scaling)
        for start, end, slot, bias in self._pieces:
            total = bias.shape[1]
            asked = query[start:end].transpose(0, 1)
            output[start:end] = _read(asked, keys[slot, :, :total], values[slot, :, :total], bias, scaling)
        return output

    def _decode(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """Attention of one token per slot, shape (n, heads, dim).

        Done for all slots in use at once, idle ones included: one large product beats gathering the caches.
        """
        (used, length), (kv_heads, dim) = self._bias.shape, (key.shape[1], key.shape[3])
        groups = query.shape[1] // kv_heads
        asked = query.new_zeros((used, query.shape[1], dim))
        asked[self._single_slots] = query[self._single_rows]
        keys, values = (states[:used].flatten(0, 1)[:, :length] for states in (key, value))
        bias = self._bias.repeat_interleave(kv_heads, dim=0).unsqueeze(1)
        scores = torch.baddbmm(bias, asked.view(used * kv_heads, groups, dim), keys.transpose(1, 2), alpha=scaling)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        mixed = torch.bmm(weights, values).view(used, query.shape[1], dim)
        return mixed[self._single_slots]


def _read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention of a longer piece of one slot, whose queries have shape (heads, new, dim); shape (new, heads, dim)."""
    (heads, new, dim), kv_heads = query.shape, key.shape[0]
    groups = heads // kv_heads
    if query.dtype == torch.float32 and query.device.type == "cpu":
        mixed = nn.functional.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=bias, scale=scaling, enable_gqa=groups > 1
        )
        return mixed[0].transpose(0, 1)
    # In bfloat16 torch's own is up to two times slower than this on CPUs, and on GPUs it has no kernel for a mask and
    # groups.  Queries of one group share their keys: (kv heads, groups · new, dim) against (kv heads, total, dim).
    asked = query.reshape(kv_heads, groups * new, dim)
    scores = torch.baddbmm(bias.repeat(groups, 1), asked, key.transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.bmm(weights, value).view(heads, new, dim).transpose(0, 1)
