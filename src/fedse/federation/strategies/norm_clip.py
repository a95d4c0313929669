"""Norm clipping: no update counts for more than one of about the usual length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.averaging import average
from fedse.federation.strategies.stepping import Central, counted, distance, server_step
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class NormClip(Central):
    """The mean of the changes, of which none is longer than C = clip · median ‖D_k‖: D_k · min(1, C / ‖D_k‖).

    One site of K moves the mean by C / K at most.  A change of the usual length in a wrong direction, such as a sign
    flip, passes.  The numbers ``_counts/<site>`` of the state have min(1, C / ‖D_k‖) of the round.

    Sent and returned: both factors.  Cost: O(K·P), and every update is read twice.

    Attributes:
        clip: C over the median length of an update, above 0; 1 to 1.5 is usual.
    """

    clip: float = 1.0

    name: ClassVar[str] = "norm_clip"
    citation: ClassVar[str] = "Norm clipping: Sun et al. 2019, arXiv 1911.07963; the median as the bound: fedse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.clip < math.inf:
            raise ConfigError(f"clip is {self.clip}", "set method.options.clip to a finite number above 0")

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The mean of the clipped changes."""
        lengths = {site: distance(start, update.adapter) for site, update in updates.items()}
        bound = self.clip * median(lengths.values())
        factors = {site: min(1.0, bound / length) if length else 1.0 for site, length in lengths.items()}

        def clipped() -> Iterator[tuple[float, AdapterState]]:
            for site, update in updates.items():
                yield 1.0, server_step(start, update.adapter, factors[site])

        return replace(state, adapters={GLOBAL: average(clipped())}, numbers=counted(factors))
