"""A strategy as a package of its own writes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.federation.strategies import GLOBAL, State, Strategy, Updates


@dataclass(frozen=True)
class Median(Strategy):
    """The median of every value over the sites, and a share of the values that stood before.

    Attributes:
        inertia: that share.
    """

    inertia: float = 0.0

    name: ClassVar[str] = "median"
    citation: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498"

    def absorb(self, state: State, updates: Updates) -> State:
        before, sent = state.adapter(), [update.adapter.tensors for update in updates.values()]
        tensors = {
            name: self.inertia * array + (1.0 - self.inertia) * np.median([one[name] for one in sent], axis=0)
            for name, array in before.tensors.items()
        }
        return replace(state, adapters={GLOBAL: AdapterState(tensors, before.meta)})
