"""The updates of a round beside each other, for rules that look at all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.lowrank import Term
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState
from fedse.federation.strategies.held import held
from fedse.federation.strategies.stepping import flat, unflat
from fedse.federation.strategies.updates import Updates

#: Values that are computed with at once, over all sites; 32 MiB in float64.
_AT_ONCE = 1 << 22


class Stack:
    """K updates as the rows of one matrix, of which a few columns are computed with at a time.

    Args:
        start: φ, the adapter that the updates began from.
        updates: at least one; see :func:`~fedse.federation.strategies.held.held` for where they lie.

    Attributes:
        sites: names, in the order of the rows.

    Raises:
        StorageError: if a temporary file cannot be written.
    """

    def __init__(self, start: AdapterState, updates: Updates) -> None:
        self.sites = tuple(updates)
        self._start = start
        self._begin = flat(start)
        self._held = held(updates)

    def parts(self) -> Iterator[tuple[slice, Matrix]]:
        """Columns and the changes D_k = φ_k − φ in them, shape (K, columns), in float64."""
        size = self._begin.size
        width = max(1, _AT_ONCE // len(self._held))
        for first in range(0, size, width):
            columns = slice(first, min(first + width, size))
            yield columns, np.stack([values[columns] for _, values in self._held]) - self._begin[columns]

    def changes(self) -> Iterator[Matrix]:
        """The D_k one after the other, each of shape (P,)."""
        for _, values in self._held:
            yield values - self._begin

    def gram(self) -> Matrix:
        """The inner products ⟨D_j, D_k⟩ over both factors, shape (K, K)."""
        return np.asarray(sum(deltas @ deltas.T for _, deltas in self.parts()))

    def factors(self, layer: str) -> Term:
        """The factors B_k, shape (K, out, r), and A_k, shape (K, r, in), of a layer, in float64."""
        return self._tensor(layer + SUFFIX_B), self._tensor(layer + SUFFIX_A)

    def _tensor(self, name: str) -> Matrix:
        return np.stack([adapter.tensors[name] for adapter, _ in self._held]).astype(np.float64)

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
            return unflat(self._held[counting[0]].values.astype(np.float64), self._start)
        return self.merged(lambda _, deltas: weights @ deltas)
