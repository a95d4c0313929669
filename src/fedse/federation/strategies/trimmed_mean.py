"""The trimmed mean: in every coordinate the smallest and the largest changes do not count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.guarded import Guarded
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class TrimmedMean(Guarded):
    """Of every coordinate the ``hostile`` smallest and largest changes are left out, and the others averaged.

    No f sites can move a coordinate beyond what others send, as long as the round has more than 2 f updates.  With the
    largest f that this allows it is nearly the median.  Where environments differ it also leaves out what a site alone
    has learnt; and as coordinates of dense changes do not cancel out, it is a little longer than the mean.

    Sent and returned: both factors.  Cost: O(K·P), and a selection for each of P coordinates.
    """

    name: ClassVar[str] = "trimmed_mean"
    citation: ClassVar[str] = "Trimmed mean: Yin et al. 2018, arXiv 1803.01498"

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The mean of the middle."""
        self.enough(updates)
        low, high = self.hostile, len(updates) - self.hostile

        def rule(_: slice, deltas: Matrix) -> Matrix:
            return np.asarray(np.partition(deltas, (low, high - 1), axis=0)[low:high].mean(axis=0))

        return replace(state, adapters={GLOBAL: Stack(start, updates).merged(rule)})
