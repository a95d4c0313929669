"""SCAFFOLD: sites correct their gradients by what those of the others are on average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import Mean, average
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State

#: Where the state's arrays have c.
_CONTROL = "control/"
#: In the state's numbers: how many sites the federation has.
_SITES = "_sites"


@dataclass(frozen=True)
class Scaffold(Mean):
    """The mean of updates whose gradients are g − c_k + c: each site steps as if it saw what all see.

    Site k keeps the mean gradient of its last update as c_k, without corrections.  With SGD that is the paper's option
    II, c_k ← c_k − c + (φ − θ_k) / Σ lr.  The corrected gradients go into AdamW, as any gradient does.  The server
    keeps c, the mean of all c_k: c ← c + Σ_k Δc_k / N over the sites that took part, of N in the federation.  All begin
    as 0.

    Sent: both factors, and c; returned: both factors, and Δc_k.  That is twice what the mean sends, and a mean gradient
    tells more of a site's experience than an update: the site must disclose ``gradients``.  The updates are gone over
    once.  Where the update of a site is lost, c no longer is the mean of the c_k.
    """

    name: ClassVar[str] = "scaffold"
    citation: ClassVar[str] = "SCAFFOLD: Karimireddy et al. 2020, arXiv 1910.06378"

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The initial adapter, and the number of sites."""
        return replace(super().initial(adapter, ranks), numbers={_SITES: float(len(ranks))})

    def instruct(self, state: State, site: str) -> Sent:
        """The global adapter and c."""
        control = {name.removeprefix(_CONTROL): c for name, c in state.arrays.items() if name.startswith(_CONTROL)}
        return replace(super().instruct(state, site), tensors=control, work=Work(control=True))

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:  # noqa: ARG002
        """The mean of the updates, and what becomes of c."""
        changes: dict[str, Matrix] = {}

        def adapters() -> Iterator[tuple[float, AdapterState]]:
            for update in updates.values():
                for name, change in update.tensors.items():
                    changes[name] = changes.get(name, np.zeros(change.shape)) + change
                yield 1.0, update.adapter

        mean = average(adapters())
        control = {
            _CONTROL + name: np.asarray(
                state.arrays.get(_CONTROL + name, 0.0) + change / state.numbers[_SITES], dtype=np.float32
            )
            for name, change in changes.items()
        }
        return replace(state, adapters={GLOBAL: mean}, arrays={**state.arrays, **control})
