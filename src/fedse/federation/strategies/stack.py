"""The updates of a round beside each other, for rules that look at all of them at once."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.lowrank import Term
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState
from fedse.federation.strategies.stepping import flat, unflat
from fedse.federation.strategies.updates import Updates
from fedse.storage import storage_errors
from fedse.types import FloatArray

#: Bytes of updates that are held in memory; more lie in a temporary file.
_IN_MEMORY = 1 << 28
#: Values that are computed with at once, over all sites; 32 MiB in float64.
_AT_ONCE = 1 << 22


class Stack:
    """K updates as the rows of one matrix, of which a few columns are computed with at a time.

    An update is loaded once.  What does not fit into memory lies in a temporary file, 4·K·P bytes of P parameters.

    Args:
        start: φ, the adapter that the updates began from.
        updates: at least one.

    Attributes:
        sites: names, in the order of the rows.

    Raises:
        StorageError: if the temporary file cannot be written.
    """

    def __init__(self, start: AdapterState, updates: Updates) -> None:
        self.sites = tuple(updates)
        self._start = start
        self._begin = flat(start)
        sizes = (tensor.size for tensor in start.tensors.values())
        self._ends = dict(zip(start.tensors, accumulate(sizes), strict=True))
        shape = len(self.sites), self._begin.size
        rows = (_row(update.adapter) for update in updates.values())
        if 4 * shape[0] * shape[1] <= _IN_MEMORY:
            self._values = np.empty(shape, dtype=np.float32)
            for index, row in enumerate(rows):
                self._values[index] = row
        else:
            # Written, not mapped for writing: a full disk is then an error and not a crash.
            with storage_errors("write", Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
                for row in rows:
                    file.write(row.data)
                file.flush()
                self._values = np.memmap(file, np.float32, "r", shape=shape)

    def parts(self) -> Iterator[tuple[slice, Matrix]]:
        """Columns and the changes D_k = φ_k − φ in them, shape (K, columns), in float64."""
        count, size = self._values.shape
        width = max(1, _AT_ONCE // count)
        for first in range(0, size, width):
            columns = slice(first, min(first + width, size))
            yield columns, self._values[:, columns] - self._begin[columns]

    def changes(self) -> Iterator[Matrix]:
        """The D_k one after the other, each of shape (P,)."""
        for row in self._values:
            yield row - self._begin

    def gram(self) -> Matrix:
        """The inner products ⟨D_j, D_k⟩ over both factors, shape (K, K)."""
        return np.asarray(sum(deltas @ deltas.T for _, deltas in self.parts()))

    def factors(self, layer: str) -> Term:
        """The factors B_k, shape (K, out, r), and A_k, shape (K, r, in), of a layer, in float64."""
        return self._tensor(layer + SUFFIX_B), self._tensor(layer + SUFFIX_A)

    def _tensor(self, name: str) -> Matrix:
        shape, end = self._start.tensors[name].shape, self._ends[name]
        values = self._values[:, end - math.prod(shape) : end]
        return values.astype(np.float64).reshape(len(self.sites), *shape)

    def merged(self, rule: Callable[[slice, Matrix], Matrix]) -> AdapterState:
        """φ + the change that a rule makes of the changes in a few columns, for all columns.

        Raises:
            AdapterError: if it leaves the range of float32.
        """
        merged = self._begin.copy()
        for columns, deltas in self.parts():
            merged[columns] += rule(columns, deltas)
        return unflat(merged, self._start)

    def weighted(self, weights: Matrix) -> AdapterState:
        """φ + Σ_k w_k D_k, with weights of shape (K,); the bits of an update that alone has weight 1."""
        [*counting] = np.flatnonzero(weights)
        if len(counting) == 1 and weights[counting[0]] == 1.0:
            return unflat(self._values[counting[0]].astype(np.float64), self._start)
        return self.merged(lambda _, deltas: weights @ deltas)


def _row(adapter: AdapterState) -> FloatArray:
    return np.concatenate([tensor.reshape(-1) for tensor in adapter.tensors.values()])
