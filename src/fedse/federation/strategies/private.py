"""Shared and private blocks: what sites have in common is averaged, and what is a site's own never leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import Mean
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.ranks import own_components
from fedse.runs.rounds import State


@dataclass(frozen=True)
class Private(Mean):
    """W = W₀ + s(B_s A_s + B_k A_k) at site k: the shared block s is averaged, and block k stays at the site.

    Sent up: A and B of the shared block.  Returned: those; the others, in which nothing moves, once.  The server's cost
    is that of the mean.

    A site is evaluated with both blocks, and after the last round with the shared one alone, too: that is the global
    adapter, which a new site begins from and which is exported.  Its other components have a B of zero.

    Attributes:
        own: share of the ``lora.rank`` components that are a site's own; the others are shared.
    """

    own: float = 0.5

    name: ClassVar[str] = "private"
    citation: ClassVar[str] = "fedse; after FedALT (arXiv 2503.11880)"
    personal: ClassVar[bool] = True

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The adapter, if it has components for both blocks."""
        own_components(self.own, adapter.meta.rank)
        return super().initial(adapter, ranks)

    def trained(self, state: State) -> Trained:
        """The shared block, which is sent; the own one is trained beside it."""
        return Trained(ranks=tuple(range(self._shared(state.adapter()))))

    def instruct(self, state: State, site: str) -> Sent:
        """The global adapter, in which the site puts its own block."""
        sent = super().instruct(state, site)
        own = range(self._shared(sent.adapter), sent.adapter.meta.rank)
        return replace(sent, work=sent.work.model_copy(update={"private": tuple(own)}))

    def _shared(self, adapter: AdapterState) -> int:
        return adapter.meta.rank - own_components(self.own, adapter.meta.rank)
