"""TIES: of every update its largest values, and of these the ones whose sign carries most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class Ties(Central):
    """Trim, elect sign, and merge, on the changes D_k of both factors.

    Of each D_k the share ``density`` that is largest is kept, over all tensors together.  A coordinate takes the sign
    of the sum over the sites, and then the mean over those sites that have this sign there.  It does not divide by the
    number of all sites, so that it is longer than the mean.

    Sent and returned: both factors.  Cost: O(K·P), and a selection for each update.

    Attributes:
        density: share of the values of an update that is kept; all of those with the smallest magnitude that is kept.
    """

    density: float = 0.2

    name: ClassVar[str] = "ties"
    citation: ClassVar[str] = "TIES: Yadav et al. 2023, arXiv 2306.01708"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_density(self.density)

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The trimmed changes, averaged where their signs agree."""
        stack = Stack(start, updates)
        least = np.array([_least_kept(change, self.density) for change in stack.changes()])[:, None]

        def rule(_: slice, deltas: Matrix) -> Matrix:
            return agreeing_mean(np.where(np.abs(deltas) >= least, deltas, 0.0))

        return replace(state, adapters={GLOBAL: stack.merged(rule)})


def agreeing_mean(trimmed: Matrix) -> Matrix:
    """The mean over the rows that have the sign of the column's sum; 0 where that is 0."""
    agree = np.sign(trimmed) == np.sign(trimmed.sum(axis=0))
    return np.asarray((trimmed * agree).sum(axis=0) / np.maximum(1, (agree & (trimmed != 0)).sum(axis=0)))


def check_density(density: float) -> None:
    """Refuse what is no share of values.

    Raises:
        ConfigError: if it is not above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise ConfigError(f"density is {density}", "set method.options.density to a number above 0, at most 1")


def _least_kept(change: Matrix, density: float) -> float:
    kept = max(1, int(density * change.size))
    return float(np.partition(np.abs(change), change.size - kept)[change.size - kept])
