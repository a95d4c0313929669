"""Rules on the changes of the products, M_k = B_k A_k − B A, in the space that all factors of a layer span.

With orthonormal bases U of the columns of all B and V of the rows of all A, each M_k is U C_k V with a small C_k.
Rules make one small matrix of the C_k.  No product is ever formed.  This is core space (Panariello et al. 2025, arXiv
2509.17786), with where the round began in it.

The next adapter is the one of the same rank that is nearest to B A + server_lr · the merged change.  What that cuts
off is noted as the number ``_cut`` of the state, over the norm of what was to be fitted.  A comes back with rows of
length 1, and the magnitude is in B.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix, factors_of, layers
from fedse.adapters.lowrank import Term, nearest
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import CUT, Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State

#: Singular values below this share of the largest are rounding errors.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Core:
    """The changes of one layer in its core space, of m columns and n rows.

    Attributes:
        columns: U, orthonormal, shape (out, m).
        rows: V, orthonormal, shape (n, in).
        before: of B A, shape (m, n).
        lefts, rights: factors of the C_k, shapes (m, 2r) and (2r, n).
        rank: r.
    """

    columns: Matrix
    rows: Matrix
    before: Matrix
    lefts: Sequence[Matrix]
    rights: Sequence[Matrix]
    rank: int

    @classmethod
    def of(cls, start: Term, b: Matrix, a: Matrix) -> Core:
        """The core of a layer.

        Args:
            start: B, shape (out, r), and A, shape (r, in).
            b: B_k, shape (K, out, r).
            a: A_k, shape (K, r, in).
        """
        rank = b.shape[2]
        columns, left = np.linalg.qr(np.concatenate([start[0], *b], axis=1))
        rows, right = np.linalg.qr(np.concatenate([start[1], *a], axis=0).T)
        first, *lefts = np.split(left, len(b) + 1, axis=1)
        second, *rights = np.split(right.T, len(b) + 1, axis=0)
        return cls(
            columns,
            rows.T,
            first @ second,
            [np.concatenate([own, -first], axis=1) for own in lefts],
            [np.concatenate([own, second], axis=0) for own in rights],
            rank,
        )

    def total(self) -> Matrix:
        """Σ_k C_k, shape (m, n)."""
        return np.asarray(np.concatenate(self.lefts, axis=1) @ np.concatenate(self.rights, axis=0))


def triplets(left: Matrix, right: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """The singular value decomposition of left · right, for factors of shapes (m, q) and (q, n), q ≤ m and n."""
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right.T)
    u, values, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, values, vt @ q_right.T


def polar(matrix: Matrix) -> Matrix:
    """The nearest matrix whose singular values are all 1, or 0 where those of the matrix are nearly 0."""
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = values > NEGLIGIBLE * values.max(initial=0.0)
    return np.asarray(u[:, kept] @ vt[kept])


@dataclass(frozen=True)
class InCoreSpace(Central):
    """A rule that merges changes of products.

    Attributes:
        server_lr: the step on the merged change; it does not choose itself.
        restart: see :class:`~fedse.federation.strategies.stepping.Central`.
    """

    server_lr: float = 1.0

    memory: ClassVar[bool] = False  # components change places and turn from round to round

    @abstractmethod
    def merge(self, core: Core) -> tuple[Matrix, Mapping[str, float]]:
        """The merged change of a layer, shape (m, n), and what is noted of it, to be summed over the layers."""

    def noted(self, sums: Mapping[str, float]) -> Mapping[str, float]:
        """What was noted, as numbers of the state."""
        return sums

    def absorb(self, state: State, updates: Updates) -> State:
        """The step is made on the products, before they are cut to the rank."""
        combined = self.combine(state, self.start(state), updates)
        return replace(combined, adapters={**state.adapters, **combined.adapters})

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The nearest adapter to B A + server_lr · the merged change."""
        stack = Stack(start, updates)
        rank, notes = start.meta.rank, Counter[str]()
        cut = whole = 0.0

        def fitted(layer: str) -> Iterator[Term]:
            nonlocal cut, whole
            core = Core.of(factors_of(start, layer), *stack.factors(layer))
            merged, told = self.merge(core)
            notes.update(told)
            u, values, vt = np.linalg.svd(core.before + self.server_lr * merged, full_matrices=False)
            whole, cut = whole + float(np.square(values).sum()), cut + float(np.square(values[rank:]).sum())
            yield core.columns @ (u[:, :rank] * values[:rank]), vt[:rank] @ core.rows

        adapter, _ = nearest({layer: fitted(layer) for layer in layers(start)}, rank, start.meta)
        numbers = {**self.noted(notes), CUT: math.sqrt(cut / whole) if whole else 0.0}
        return replace(state, adapters={GLOBAL: adapter}, numbers=numbers)
