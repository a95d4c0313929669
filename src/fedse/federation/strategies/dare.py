"""DARE: of every update random values are dropped, and the others are made larger in return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import average
from fedse.federation.strategies.stepping import Central, flat, unflat
from fedse.federation.strategies.ties import check_density
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State
from fedse.seeding import numpy_generator


@dataclass(frozen=True)
class Dare(Central):
    """The mean of m_k ⊙ D_k / density, where each value of m_k is 1 with probability ``density``, else 0.

    Its expectation is the mean.  A regulariser: what is dropped at one site does not disturb what another has learnt.

    Sent and returned: both factors.  Cost: O(K·P), of which random numbers are most.  Updates are gone over once.  What
    is dropped is a function of the state and of the site's name.

    Attributes:
        density: probability with which a value is kept.
    """

    density: float = 0.5

    name: ClassVar[str] = "dare"
    citation: ClassVar[str] = "DARE: Yu et al. 2024, arXiv 2311.03099"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_density(self.density)

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The mean of what is left of the changes."""
        begin = flat(start)

        def thinned() -> Iterator[tuple[float, AdapterState]]:
            for site, update in updates.items():
                change = flat(update.adapter)
                change -= begin
                generator = numpy_generator(self.name, state.adapter().digest, site)
                change *= generator.random(change.size, dtype=np.float32) < self.density
                change /= self.density
                change += begin
                yield 1.0, unflat(change, start)

        return replace(state, adapters={GLOBAL: average(thinned())})
