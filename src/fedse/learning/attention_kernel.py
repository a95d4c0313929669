"""Attention over a packed row on a CPU: a kernel, compiled by numba, that keeps no probabilities.

It computes in float32, whatever the states are in.

Tokens go in tiles of 32, so that what is computed with stays in the processor's nearest cache.  The backward pass
computes the probabilities again from the logarithms of their sums (FlashAttention, arXiv 2205.14135).  A head of keys
is one thread's work, so the result does not depend on the number of threads.

Scores lie across: a line of a tile has one key's scores with 32 queries.  So maxima and sums over keys are lines, too.
Lines are cut out as arrays before the loops over them: what is computed by places in a larger array, LLVM leaves
without vectors.

Importing it needs numba, which has no wheel for every Python and system.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from fedse.learning.packing import PackedLayout
from fedse.models.compiled import array, compiled, exponential, inlined
from fedse.models.lines import LINE, add_product, add_transposed_product

_TILE = LINE * LINE


@inlined
def _clear(numbers, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        numbers[i] = 0


@inlined
def _hide(scores, at, visible, diagonal, value):  # type: ignore[no-untyped-def]
    """Overwrite the scores of keys from ``visible`` on, and on the diagonal those of keys after the query."""
    for key in range(LINE):
        for i in range(LINE if key >= visible else key if diagonal else 0):
            scores[at + key * LINE + i] = value


@compiled
def _forward(asked_across, keys, values, mixed, sums, blocks, groups, strips):  # type: ignore[no-untyped-def]
    """Attend with all heads of queries that belong to one head of keys.

    Args:
        asked_across: scaled queries, a tile for each head, block and 32 dimensions, each (dimensions, tokens), flat.
        keys: tiles for each block and 32 dimensions, each (tokens, dimensions), flat.
        values: like ``keys``.
        mixed: of each head of queries what ``values`` are of one; zeros, to which is added.
        sums: logarithm of each query's sum of exponentials, shape (groups, tokens of all blocks); written to.
        blocks: of each the first one that its queries see besides those of the prefix, and how many tokens of the
            prefix they see, shape (blocks, 2).
        groups: heads of queries.
        strips: of 32 dimensions in a head.
    """
    count, tiles = blocks.shape[0], strips * _TILE
    scores = np.empty(count * _TILE, np.float32)
    largest, total = np.empty(LINE, np.float32), np.empty(LINE, np.float32)
    for group in range(groups):
        for asking in range(count):
            own, prefix = blocks[asking]
            before = -(-prefix // LINE)
            seen, here = before + asking - own + 1, (group * count + asking) * tiles
            _clear(scores, seen * _TILE)
            for j in range(seen):
                at = (j if j < before else own + j - before) * tiles
                for strip in range(0, tiles, _TILE):
                    add_product(scores, j * _TILE, keys, at + strip, asked_across, here + strip)
                if j == before - 1 or j == seen - 1:
                    visible = LINE if j == seen - 1 else prefix - j * LINE
                    _hide(scores, j * _TILE, visible, j == seen - 1, np.float32(-np.inf))
            for i in range(LINE):
                largest[i] = -np.inf
                total[i] = 0
            for key in range(0, seen * _TILE, 2 * LINE):
                one, other = scores[key : key + LINE], scores[key + LINE : key + 2 * LINE]
                for i in range(LINE):
                    score = max(one[i], other[i])
                    largest[i] = max(largest[i], score)
            for key in range(0, seen * _TILE, LINE):
                line = scores[key : key + LINE]
                for i in range(LINE):
                    share = exponential(line[i] - largest[i])
                    line[i] = share
                    total[i] += share
            for j in range(seen):
                at = (j if j < before else own + j - before) * tiles
                if j == before - 1 or j == seen - 1:
                    visible = LINE if j == seen - 1 else prefix - j * LINE
                    _hide(scores, j * _TILE, visible, j == seen - 1, np.float32(0))
                for strip in range(0, tiles, _TILE):
                    add_transposed_product(mixed, here + strip, scores, j * _TILE, values, at + strip)
            for i in range(LINE):
                sums[group, asking * LINE + i] = largest[i] + np.log(total[i])
                share = np.float32(1) / total[i]
                for strip in range(0, tiles, _TILE):
                    for place in range(here + strip + i * LINE, here + strip + (i + 1) * LINE):
                        mixed[place] *= share


@compiled
def _backward(  # type: ignore[no-untyped-def]
    asked,
    asked_across,
    keys,
    values,
    grads,
    grads_across,
    sums,
    means,
    grad_asked,
    grad_keys,
    grad_values,
    blocks,
    groups,
    strips,
):
    """Add the gradients of what :func:`_forward` takes, of one head of keys.

    ``grads`` are those of ``mixed``, and ``means`` their products with it, shape (groups, tokens of all blocks).
    """
    count, tiles = blocks.shape[0], strips * _TILE
    shares, slopes = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
    for group in range(groups):
        for asking in range(count):
            own, prefix = blocks[asking]
            before = -(-prefix // LINE)
            seen, here = before + asking - own + 1, (group * count + asking) * tiles
            at_query = asking * LINE
            logarithm = sums[group, at_query : at_query + LINE]
            mean = means[group, at_query : at_query + LINE]
            for j in range(seen):
                at = (j if j < before else own + j - before) * tiles
                _clear(shares, _TILE)
                _clear(slopes, _TILE)
                for strip in range(0, tiles, _TILE):
                    add_product(shares, 0, keys, at + strip, asked_across, here + strip)
                    add_product(slopes, 0, values, at + strip, grads_across, here + strip)
                for key in range(0, _TILE, LINE):
                    line, slope = shares[key : key + LINE], slopes[key : key + LINE]
                    for i in range(LINE):
                        share = exponential(line[i] - logarithm[i])
                        line[i] = share
                        slope[i] = share * (slope[i] - mean[i])
                if j == before - 1 or j == seen - 1:
                    visible = LINE if j == seen - 1 else prefix - j * LINE
                    _hide(shares, 0, visible, j == seen - 1, np.float32(0))
                    _hide(slopes, 0, visible, j == seen - 1, np.float32(0))
                for strip in range(0, tiles, _TILE):
                    add_product(grad_values, at + strip, shares, 0, grads, here + strip)
                    add_product(grad_keys, at + strip, slopes, 0, asked, here + strip)
                    add_transposed_product(grad_asked, here + strip, slopes, 0, keys, at + strip)


class _Tiling(NamedTuple):
    """Where the stretches of a row lie in whole blocks of 32 tokens: first row, end, first block."""

    stretches: tuple[tuple[int, int, int], ...]
    blocks: Any  # see :func:`_forward`

    @staticmethod
    def of(layout: PackedLayout) -> _Tiling:
        stretches: list[tuple[int, int, int]] = []
        blocks: list[tuple[int, int]] = []
        for start, end in ((0, layout.prefix), *layout.ranges) if layout.prefix else layout.ranges:
            own = len(blocks)
            stretches.append((start, end, own))
            blocks += [(own, layout.prefix if own else 0)] * -(-(end - start) // LINE)
        return _Tiling(tuple(stretches), np.array(blocks, np.int64))

    def tiles(self, states: torch.Tensor) -> torch.Tensor:
        """States of shape (heads, N, d) in tiles, with zeros where it ends.

        Returns:
            Shape (heads, blocks, strips, tokens, dimensions), float32.
        """
        heads, _, dim = states.shape
        strips, blocks = -(-dim // LINE), len(self.blocks)
        filled = torch.zeros(heads, blocks * LINE, strips * LINE)
        for start, end, block in self.stretches:
            filled[:, block * LINE : block * LINE + end - start, :dim] = states[:, start:end]
        return filled.view(heads, blocks, LINE, strips, LINE).transpose(2, 3).contiguous()

    def states(self, tiles: torch.Tensor, dim: int) -> torch.Tensor:
        """The reverse of :meth:`tiles`."""
        filled = tiles.transpose(2, 3).flatten(1, 2).flatten(2)
        rows = [filled[:, block * LINE : block * LINE + end - start, :dim] for start, end, block in self.stretches]
        return torch.cat(rows, dim=1)


def _across(tiles: torch.Tensor) -> torch.Tensor:
    return tiles.transpose(3, 4).contiguous()


def _of_each_head(kernel: Callable[..., None], tensors: Any, *others: Any) -> None:
    """Call the kernel for each head of keys, with its part of every tensor, as threads can be had."""
    heads = [[array(one) for one in of_head] for of_head in zip(*tensors, strict=True)]
    threads = min(torch.get_num_threads(), len(heads))
    if threads == 1:
        for arrays in heads:
            kernel(*arrays, *others)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda arrays: kernel(*arrays, *others), heads))


class KernelAttention(torch.autograd.Function):
    """Inputs (heads, N, d), (kv heads, N, d) twice, of one dtype; output (N, heads, d)."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: FunctionCtx,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: PackedLayout,
        scale: float,
    ) -> torch.Tensor:
        tiling, heads = _Tiling.of(layout), key.shape[0]
        asked, keys, values = tiling.tiles(query).mul_(scale), tiling.tiles(key), tiling.tiles(value)
        mixed, sums = torch.zeros_like(asked), asked.new_empty(*asked.shape[:2], LINE)
        shape = (query.shape[0] // heads, asked.shape[2])
        kv = [one.flatten(1) for one in (keys, values)]
        q = [one.view(heads, -1) for one in (_across(asked), mixed)]
        _of_each_head(_forward, (q[0], *kv, q[1], sums.view(heads, shape[0], -1)), tiling.blocks, *shape)
        ctx.save_for_backward(asked, keys, values, mixed, sums)
        ctx.tiling, ctx.scale, ctx.dim = tiling, scale, query.shape[2]  # type: ignore[attr-defined]
        return tiling.states(mixed, query.shape[2]).transpose(0, 1).to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: D102
        asked, keys, values, mixed, sums = ctx.saved_tensors
        tiling, heads, groups = ctx.tiling, len(keys), len(asked) // len(keys)
        grads = tiling.tiles(grad.transpose(0, 1))
        means = (grads * mixed).sum((2, 4)).view(heads, groups, -1)
        found = [torch.zeros_like(one) for one in (asked, keys, values)]
        tensors = (asked, _across(asked), keys, values, grads, _across(grads))
        flat = [one.view(heads, -1) for one in tensors]
        results = [one.view(heads, -1) for one in found]
        _of_each_head(
            _backward, (*flat, sums.view(heads, groups, -1), means, *results), tiling.blocks, groups, asked.shape[2]
        )
        found[0].mul_(ctx.scale)
        return *(tiling.states(one, ctx.dim).to(grad.dtype) for one in found), None, None
