"""Multi-Krum: the mean of the updates that have others near them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.guarded import Guarded
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import counted
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class MultiKrum(Guarded):
    """The mean of the K − f changes with the lowest scores; a score is the sum of the squared distances to the nearest
    K − f − 2 others.

    It always drops f sites.  Where every site has an environment of its own, honest changes are far from each other and
    the one that is dropped may be honest: use it where environments are at several sites.  The numbers
    ``_counts/<site>`` of the state have 1 for each site that counted in the round, else 0.

    Sent and returned: both factors.  Only inner products over both factors are computed with, O(K² P).
    """

    name: ClassVar[str] = "multi_krum"
    citation: ClassVar[str] = "Krum: Blanchard et al. 2017, arXiv 1703.02757"

    @property
    def fewest(self) -> int:
        """K ≥ 2 f + 3, as the proof asks."""
        return 2 * self.hostile + 3 if self.hostile else 1

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The mean of the selected changes."""
        self.enough(updates)
        stack = Stack(start, updates)
        selected = np.zeros(len(stack.sites))
        selected[np.argsort(krum_scores(stack.gram(), self.hostile), kind="stable")[: len(selected) - self.hostile]] = 1
        told = counted(dict(zip(stack.sites, selected.tolist(), strict=True)))
        return replace(state, adapters={GLOBAL: stack.weighted(selected / selected.sum())}, numbers=told)


def krum_scores(gram: Matrix, hostile: int) -> Matrix:
    """Sums of the squared distances of each update to its nearest K − f − 2 others, shape (K,).

    Args:
        gram: inner products ⟨D_j, D_k⟩, shape (K, K).
        hostile: f.
    """
    squares = np.diag(gram)
    distances = np.sort(squares[:, None] + squares - 2 * gram, axis=1)
    return np.asarray(distances[:, 1 : max(1, len(gram) - hostile - 1)].sum(axis=1))
