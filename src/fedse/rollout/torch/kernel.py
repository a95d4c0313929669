"""Attention over the slots' caches on a CPU: a kernel, compiled by numba, that reads the tokens that are there.

For every piece and every head of keys it computes what a row needs from that row's own slot, in an order that nothing
else changes: neither the other rows, nor how the work is shared among threads.  Numbers are float32 throughout; a
bfloat16 cache is widened as it is read.  The softmax has two passes, over scores that stay in the processor's cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from transformers import PreTrainedConfig

from fedse.models.compiled import array, compiled, exponential, inlined, narrow, widen
from fedse.models.lines import HALF, LINE, add_weighted
from fedse.rollout.torch.cache import SlotCache, SlotPlan

#: Positions of a block of the cache, and numbers of a line, that an inner loop takes at once.
BLOCK = LINE
#: New tokens of a piece whose scores are computed together.
_TILE = 8
#: Multiply-adds that are worth a second thread.
_WORTH = 1_000_000


@inlined
def _place(number, itemsize):  # type: ignore[no-untyped-def]
    """Where a number of a line of the cache lies: of two bytes each, numbers of the two halves alternate.

    So a register of pairs gives the halves by a shift and a mask.
    """
    return number if itemsize != 2 else number % HALF * 2 + number // HALF


@inlined
def _exponentials(scores, row, seen, blocks, lanes):  # type: ignore[no-untyped-def]
    """Replace scores of a row by exp(score - the largest); beyond ``seen`` they become 0.  Returns their sum.

    Sums and maxima are taken in BLOCK lanes, so that they depend on ``seen`` alone.
    """
    for position in range(seen, blocks * BLOCK):
        scores[row, position // BLOCK, position % BLOCK] = -np.inf
    for j in range(BLOCK):
        lanes[j] = -np.inf
    for block in range(blocks):
        for j in range(BLOCK):
            score = scores[row, block, j]
            lanes[j] = score if score > lanes[j] else lanes[j]
    largest = lanes[0]
    for j in range(BLOCK):
        largest = max(largest, lanes[j])
        lanes[j] = 0
    for block in range(blocks):
        for j in range(BLOCK):
            share = exponential(scores[row, block, j] - largest)
            scores[row, block, j] = share
            lanes[j] += share
    for position in range(seen, blocks * BLOCK):
        scores[row, position // BLOCK, position % BLOCK] = 0
    total = np.float32(0)
    for j in range(BLOCK):
        total += lanes[j]
    return total


@compiled
def _attend(states, tables, query, new_keys, new_values, output, pieces, first, last, scaling):  # type: ignore[no-untyped-def]
    """Store what is new and attend, for the pairs of piece and head ``first`` to ``last``.

    Args:
        states: keys and values, shape (blocks, 2, kv heads, BLOCK · padded dim).  A block of keys has the shape (padded
            dim, BLOCK), one of values (padded dim / BLOCK, BLOCK, BLOCK), positions first.
        tables: of each slot its blocks, shape (slots, blocks of a context).
        query: shape (N, heads, head dim).
        new_keys: shape (N, kv heads, head dim).
        new_values: like ``new_keys``.
        output: like ``query``; written to.
        pieces: of each its first row, new tokens, slot and tokens before them, shape (pieces, 4).
        first: pair, of those numbered head by head, so that what pieces share is near when the next one reads it.
        last: pair, not included.
        scaling: of the scores.
    """
    kv_heads, dim = new_keys.shape[1], new_keys.shape[2]
    groups = query.shape[1] // kv_heads
    strips = states.shape[3] // (BLOCK * BLOCK)
    dims = strips * BLOCK
    all_pieces = pieces.shape[0]
    most = longest = 0
    for pair in range(first, last):
        most = max(most, min(pieces[pair % all_pieces, 1], _TILE))
        longest = max(longest, pieces[pair % all_pieces, 1] + pieces[pair % all_pieces, 3])
    most_blocks = -(-longest // BLOCK)
    scores = np.empty((most * groups, most_blocks, BLOCK), np.float32)
    sums, lanes = np.empty(most * groups, np.float32), np.empty(BLOCK, np.float32)
    mixed = np.empty((most * groups, strips, BLOCK), np.float32)
    asked = np.zeros((most * groups, dims), np.float32)
    for pair in range(first, last):
        head = pair // all_pieces
        start, count, slot, past = pieces[pair % all_pieces]
        next_slot, next_head = pieces[(pair + 1) % all_pieces, 2], min((pair + 1) // all_pieces, kv_heads - 1)
        for i in range(count):
            block, j = tables[slot, (past + i) // BLOCK], (past + i) % BLOCK
            if j == 0:  # what is not written is multiplied by zeros, and 0 · NaN is NaN
                for place in range(dim * BLOCK, dims * BLOCK):
                    states[block, 0, head, place] = 0
                for place in range(dims * BLOCK):
                    states[block, 1, head, place] = 0
            position = _place(j, states.itemsize)
            for d in range(dim):
                states[block, 0, head, d * BLOCK + position] = new_keys[start + i, head, d]
            for d in range(dim):
                place = (d // BLOCK * BLOCK + j) * BLOCK + _place(d % BLOCK, states.itemsize)
                states[block, 1, head, place] = new_values[start + i, head, d]
        for tile in range(0, count, _TILE):
            tokens = min(_TILE, count - tile)
            rows, total = tokens * groups, past + tile + tokens
            blocks = -(-total // BLOCK)
            for row in range(rows):
                for d in range(dim):
                    number = widen(query[start + tile + row // groups, head * groups + row % groups, d])
                    asked[row, d] = number * scaling
                for block in range(blocks):
                    for j in range(BLOCK):
                        scores[row, block, j] = 0
                for strip in range(strips):
                    for d in range(BLOCK):
                        mixed[row, strip, d] = 0
            for block in range(blocks):
                stored = tables[slot, block]
                # The memory brings the values while keys are read, and the next pair's keys while values are.
                add_weighted(
                    scores,
                    block * BLOCK,
                    most_blocks * BLOCK,
                    asked,
                    0,
                    dims,
                    dims,
                    states,
                    (stored * 2 * kv_heads + head) * dims * BLOCK,
                    ((stored * 2 + 1) * kv_heads + head) * dims * BLOCK,
                    rows,
                )
            for row in range(rows):
                sums[row] = _exponentials(scores, row, past + tile + row // groups + 1, blocks, lanes)
            for block in range(blocks):
                stored, following = tables[slot, block], tables[next_slot, block]
                for strip in range(strips):
                    add_weighted(
                        mixed,
                        strip * BLOCK,
                        dims,
                        scores,
                        block * BLOCK,
                        most_blocks * BLOCK,
                        BLOCK,
                        states,
                        ((stored * 2 + 1) * kv_heads + head) * dims * BLOCK + strip * BLOCK * BLOCK,
                        (following * 2 * kv_heads + next_head) * dims * BLOCK + strip * BLOCK * BLOCK,
                        rows,
                    )
            for row in range(rows):
                share = np.float32(1) / sums[row]
                token, query_head = start + tile + row // groups, head * groups + row % groups
                for d in range(dim):
                    number = mixed[row, d // BLOCK, d % BLOCK] * share
                    output[token, query_head, d] = narrow(number, output[token, query_head, d])


class KernelCache(SlotCache):
    """Keys and values as the kernel reads them, in blocks of positions that slots share as long as they are the same.

    Memory that no token came to fill is never touched.
    """

    def __init__(self, config: PreTrainedConfig, slots: int, context: int, dtype: torch.dtype) -> None:
        super().__init__(config)
        shape = self.shape
        most, dims = -(-context // BLOCK), -(-shape.dim // BLOCK) * BLOCK
        blocks = slots * most + 1  # one more, since a slot gets its new blocks before it gives back the old ones
        self._states = torch.empty((shape.layers, blocks, 2, shape.kv_heads, BLOCK * dims), dtype=dtype)
        self._layers = [array(layer) for layer in self._states]
        self._tables = np.zeros((slots, most), np.int64)
        self._held = [0] * slots  # blocks of each slot
        self._owners = np.zeros(blocks, np.int64)
        self._free = list(range(blocks - 1, -1, -1))
        self._kv_heads, self._multiply_adds = shape.kv_heads, 2 * shape.heads * shape.dim
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None
        self._pieces = np.empty((0, 4), np.int64)
        self._shares: list[tuple[int, int]] = []

    def copy_slot(self, source: int, target: int, length: int) -> None:
        """See :meth:`SlotCache.copy_slot`; whole blocks are shared: nothing is written to them any more."""
        whole, rest = divmod(length, BLOCK)
        blocks = self._tables[source, :whole].copy()
        self._owners[blocks] += 1
        if rest:
            last = self._tables[source, whole]
            blocks = np.append(blocks, self._take())
            self._states[:, blocks[-1]] = self._states[:, last]
        self._give_back(target)
        self._tables[target, : len(blocks)] = blocks
        self._held[target] = len(blocks)

    def _take(self) -> int:
        block = self._free.pop()
        self._owners[block] = 1
        return block

    def _give_back(self, slot: int) -> None:
        blocks = self._tables[slot, : self._held[slot]]
        self._owners[blocks] -= 1
        self._free += blocks[self._owners[blocks] == 0].tolist()

    def begin(self, plan: SlotPlan) -> None:  # noqa: D102
        self._pieces = plan.pieces
        for _, count, slot, past in plan.pieces.tolist():
            while self._held[slot] * BLOCK < past + count:
                self._tables[slot, self._held[slot]] = self._take()
                self._held[slot] += 1
        # A piece costs as much as its pairs of tokens; every thread takes pieces one after another, for about as much.
        pairs = plan.pieces[:, 1] * (plan.pieces[:, 3] + plan.pieces[:, 1])
        cost = np.tile(pairs, self._kv_heads).cumsum()
        threads = self._threads if pairs.sum() * self._multiply_adds >= _WORTH else 1
        ends = np.searchsorted(cost, cost[-1] / threads * np.arange(1, threads))
        bounds = [0, *(int(end) for end in ends), len(cost)]
        self._shares = [(one, two) for one, two in pairwise(bounds) if one < two]

    def attend(  # noqa: D102
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        output = torch.empty(query.shape, dtype=query.dtype)
        output[int(self._pieces[-1, :2].sum()) :] = 0  # rows of no piece, which only fill the pass
        arrays = [array(states.contiguous()) for states in (query, key, value, output)]

        def work(share: tuple[int, int]) -> None:
            _attend(self._layers[layer], self._tables, *arrays, self._pieces, *share, np.float32(scaling))

        others = [self._pool.submit(work, share) for share in self._shares[1:]] if self._pool else []
        work(self._shares[0])
        for other in others:
            other.result()
        return output
