"""No aggregation: the baseline in which every site learns alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.base import Sent, Strategy
from fedse.federation.strategies.stepping import INITIAL
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class Isolated(Strategy):
    """Every site goes on from its own adapter; one without an update keeps the adapter that it had.

    Its state has one adapter for each site, so here the server's memory grows with the number of sites.

    Attributes:
        restart: local updates begin from the initial adapter in every round.
    """

    restart: bool = False

    name: ClassVar[str] = "isolated"
    citation: ClassVar[str] = "Fed-SE's Local: Chen et al. 2025, arXiv 2512.08870"
    personal: ClassVar[bool] = True

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The initial adapter for every site."""
        return State(dict.fromkeys((GLOBAL, *ranks, *([INITIAL] if self.restart else [])), adapter))

    def instruct(self, state: State, site: str) -> Sent:
        """The site's own adapter, and where the update begins."""
        return Sent(state.adapter(site), start=state.adapters.get(INITIAL))

    def absorb(self, state: State, updates: Updates) -> State:
        """The sites' own adapters."""
        kept = {name: adapter for name, adapter in state.adapters.items() if name != GLOBAL}
        return State(kept | {site: update.adapter for site, update in updates.items()})
