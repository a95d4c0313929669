"""Attention over a packed row, for every decoder of transformers that uses its ``AttentionInterface``.

On a CPU float32 and small heads go through :mod:`fedse.learning.attention_kernel`.  Of larger heads in bfloat16 scores
are computed block by block in grouped matrix products, with a backward pass that writes straight into the gradients;
torch's own CPU flash attention is several times slower there, above all backwards.  Elsewhere each sequence goes
through ``scaled_dot_product_attention``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface

from fedse.errors import ModelError
from fedse.learning.packing import PackedLayout
from fedse.models.plain import as_wide, refuse_variants

PACKED_ATTENTION = "fedse-packed"
#: Not handed down as a keyword: not every family passes on what it does not know.
LAYOUT: ContextVar[PackedLayout] = ContextVar("layout")
_BLOCK = 128  # query rows per matrix product: a block's scores stay in the processor's cache
_UNIT = 32  # rows of a last block, in whole units; see fedse.models.rows
#: In bfloat16 the kernel takes 0.7 to 0.9 of the blocks' time with heads of so many numbers, and with 64 1.4 to 1.6
#: times as long (AMD EPYC with AVX512_BF16).
_SMALL_HEAD = 32
_KEPT_KEYS = 1024  # blocks against more keys than this forget their probabilities and compute them again backwards


@contextmanager
def laid_out(layout: PackedLayout) -> Iterator[None]:
    """Inside the block forward passes are over a row with this layout."""
    before = LAYOUT.set(layout)
    try:
        yield
    finally:
        LAYOUT.reset(before)


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a packed row; the function behind :data:`PACKED_ATTENTION`.

    ``query`` has shape (1, heads, N, d), ``key`` and ``value`` (1, key-value heads, N, d), where heads is a multiple of
    key-value heads; ``value`` may be narrower.  ``scaling`` of the scores is 1/√d by default.  Who sees whom is said by
    the layout of the row, see :func:`laid_out`.  A mask, dropout, and options that change the attention are refused.

    Returns:
        The attended values, shape (1, N, heads, d), and ``None`` in place of the weights.

    Raises:
        ModelError: if the model needs something else than plain causal attention.
    """
    layout = LAYOUT.get()
    if attention_mask is not None:
        raise ModelError(
            f"{type(module).__name__} brings a mask of its own, besides who sees whom in a packed row",
            "take a model family with plain causal attention (Llama, Qwen2, Qwen3, Mistral, …)",
        )
    refuse_variants(module, {"dropout": dropout, **options}, longest=layout.longest, work="the local update")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    width = value.shape[-1]
    value = as_wide(value, key)
    if query.device.type == "cpu":
        function = _on_cpu(query)
        attended: torch.Tensor = function.apply(query[0], key[0], value[0], layout, scale)  # type: ignore[no-untyped-call]
        return attended[None, ..., :width], None
    return sdpa_by_segment(query, key, value, layout, scale)[..., :width], None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)


def _on_cpu(query: torch.Tensor) -> type[torch.autograd.Function]:
    """The kernel in float32 and for small heads, where numba is there; else torch's own operations."""
    if query.dtype is torch.float32 or query.shape[-1] <= _SMALL_HEAD:
        try:
            from fedse.learning.attention_kernel import KernelAttention
        except ImportError:  # numba has no wheel for every Python and system
            pass
        else:
            return KernelAttention
    return _BlockwiseAttention


def sdpa_by_segment(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: PackedLayout, scale: float
) -> torch.Tensor:
    """The same attention through torch's fused kernels, sequence by sequence; shapes as in :func:`packed_attention`."""
    prefix = layout.prefix
    attend = partial(functional.scaled_dot_product_attention, scale=scale, enable_gqa=True)
    attended = []
    if prefix:
        attended.append(attend(query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], is_causal=True))
    for start, end in layout.ranges:
        keys, values = (
            torch.cat((states[:, :, :prefix], states[:, :, start:end]), dim=2) if prefix else states[:, :, start:end]
            for states in (key, value)
        )
        # The segment's rows are the last rows of its sequence, hence the causal triangle at the lower right.
        bias = causal_lower_right(end - start, keys.shape[2])
        attended.append(attend(query[:, :, start:end], keys, values, attn_mask=bias))
    return torch.cat(attended, dim=2).transpose(1, 2)


def _sequences(layout: PackedLayout) -> Iterator[tuple[int, int, int]]:
    """(start, end, prefix) of each range of query rows: the shared prefix itself first, then the segments."""
    if layout.prefix:
        yield 0, layout.prefix, 0
    for start, end in layout.ranges:
        yield start, end, layout.prefix


def _blocks(own: int, prefix: int) -> Iterator[tuple[int, int, int]]:
    """(first row, last row + 1, number of keys that the last row sees) of each block of ``own`` query rows."""
    for first in range(0, own, _BLOCK):
        last = min(first + _BLOCK, own)
        yield first, last, prefix + last


def _whole(rows: int, unit: int) -> int:
    return -(-rows // unit) * unit


def _filled(states: torch.Tensor, start: int, end: int, unit: int) -> torch.Tensor:
    """Rows of a range, shape (…, end − start or more, d), with zeros up to whole units."""
    missing = _whole(end - start, unit) - (end - start)
    return functional.pad(states[..., start:end, :], (0, 0, 0, missing))


def _with_prefix(states: torch.Tensor, start: int, end: int, prefix: int) -> torch.Tensor:
    """The key or value rows of one sequence: its prefix and its own, each with zeros up to whole units."""
    own = _filled(states, start, end, _UNIT)
    return torch.cat((_filled(states, 0, prefix, _BLOCK), own), dim=1) if prefix else own


def _probabilities(query: torch.Tensor, keys: torch.Tensor, scale: float, rows: int, prefix: int) -> torch.Tensor:
    """Softmax of the causal scores, shape (kv heads, group · rows, keys); ``query`` holds a group of heads per kv head.

    The last ``rows`` keys are the block's own tokens; among them row i sees keys up to i.  Of those that only fill the
    ``prefix`` up no row sees any.
    """
    scores = torch.baddbmm(query.new_empty(1), query, keys.transpose(1, 2), beta=0, alpha=scale)
    least = torch.finfo(scores.dtype).min
    hidden = torch.full((rows, rows), least, dtype=scores.dtype).triu_(1)
    scores.view(scores.shape[0], -1, rows, scores.shape[-1])[..., -rows:].add_(hidden)
    scores[..., prefix : _whole(prefix, _BLOCK)] = least
    return torch.softmax(scores, dim=-1)


class _BlockwiseAttention(torch.autograd.Function):
    """Inputs (heads, N, d), (kv heads, N, d) twice; output (N, heads, d)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: PackedLayout,
        scale: float,
    ) -> torch.Tensor:
        (heads, length, size), groups = query.shape, key.shape[0]
        grouped = query.reshape(groups, heads // groups, length, size)
        attended = query.new_empty(length, groups, heads // groups, size)
        kept: list[torch.Tensor] = []
        for start, end, prefix in _sequences(layout):
            keys, values = (_with_prefix(states, start, end, prefix) for states in (key, value))
            asked = _filled(grouped, start, end, _UNIT)
            for first, last, seen in _blocks(asked.shape[2], keys.shape[1] - asked.shape[2]):
                rows = asked[:, :, first:last].reshape(groups, -1, size)
                probabilities = _probabilities(rows, keys[:, :seen], scale, last - first, prefix)
                mixed = torch.bmm(probabilities, values[:, :seen]).view(groups, -1, last - first, size)
                real = attended[start + first : min(start + last, end)]
                real.copy_(mixed[:, :, : len(real)].permute(2, 0, 1, 3))
                if seen <= _KEPT_KEYS:
                    kept.append(probabilities)
        ctx.save_for_backward(grouped, key, value, *kept)
        ctx.layout, ctx.scale = layout, scale  # type: ignore[attr-defined]
        return attended.view(length, heads, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grouped, key, value, *saved = ctx.saved_tensors
        groups, per_group, length, size = grouped.shape
        kept = iter(saved)
        grad_grouped = grad.reshape(length, groups, per_group, size).permute(1, 2, 0, 3)
        grad_query = torch.empty_like(grouped)
        # Every sequence adds to the prefix's gradients: in float32, lest small addends be rounded away.
        grad_key, grad_value = (torch.zeros(groups, length, size) for _ in range(2))
        for start, end, prefix in _sequences(ctx.layout):
            keys, values = (_with_prefix(states, start, end, prefix) for states in (key, value))
            asked, grad_asked = (_filled(states, start, end, _UNIT) for states in (grouped, grad_grouped))
            grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
            before = keys.shape[1] - asked.shape[2]
            for first, last, seen in _blocks(asked.shape[2], before):
                rows, grad_rows = (states[:, :, first:last].reshape(groups, -1, size) for states in (asked, grad_asked))
                if seen <= _KEPT_KEYS:
                    probabilities = next(kept)
                else:
                    probabilities = _probabilities(rows, keys[:, :seen], ctx.scale, last - first, prefix)
                grad_values[:, :seen].baddbmm_(probabilities.transpose(1, 2), grad_rows)
                grad_probabilities = torch.bmm(grad_rows, values[:, :seen].transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, grad.dtype)
                grad_block = torch.bmm(grad_scores, keys[:, :seen]).mul_(ctx.scale)
                real = grad_query[:, :, start + first : min(start + last, end)]
                real.copy_(grad_block.view(groups, per_group, last - first, size)[:, :, : real.shape[2]])
                grad_keys[:, :seen].baddbmm_(grad_scores.transpose(1, 2), rows, alpha=ctx.scale)
            for total, part in ((grad_key, grad_keys), (grad_value, grad_values)):
                total[:, :prefix] += part[:, :prefix]
                total[:, start:end] += part[:, before : before + end - start]
        grad_query = grad_query.view(groups * per_group, length, size)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None
