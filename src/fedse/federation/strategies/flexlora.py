"""FlexLoRA: the mean of the products, cut to the rank that each site has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from fedse.adapters.lowrank import nearest, products
from fedse.adapters.parts import resized
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.held import held
from fedse.federation.strategies.ranks import as_numbers
from fedse.federation.strategies.stepping import CUT, ProductStep
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class FlexLora(ProductStep):
    """FlexLoRA: the server takes the best adapter of rank ``lora.rank`` for the mean product, by truncated SVD.

    A site of rank r has its first r components, which are the best adapter of that rank.

    Sent up and returned: A and B of the site's rank.  Exact up to the cut: the error is the norm of the singular values
    that were cut off, the least that any adapter of that rank has.  The number ``_cut`` of the state has it, over the
    norm of the sum.  The server needs all updates at once, and O((out + in) R² + R³) a layer, with R the sum of
    the ranks.

    A comes back with rows of length 1, and the magnitude is in B.  Components change places and turn from round to
    round, so that an update of an earlier round cannot stand in for one that did not come.
    """

    name: ClassVar[str] = "flexlora"
    citation: ClassVar[str] = "FlexLoRA: Bai et al. 2024, arXiv 2402.11505"
    mixed_ranks: ClassVar[bool] = True
    memory: ClassVar[bool] = False

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The adapter, and the rank of every site."""
        return State({GLOBAL: adapter}, numbers=as_numbers(ranks, adapter))

    def instruct(self, state: State, site: str) -> Sent:
        """As many components as the site has."""
        return Sent(resized(state.adapter(), int(state.numbers[site])))

    def absorb(self, state: State, updates: Updates) -> State:
        """The nearest adapter to (1 − η) B A + η mean(B_k A_k), with the server's step η."""
        start = state.adapter()
        weighted = [(self.server_lr / len(updates), adapter) for adapter, _ in held(updates)]
        if self.server_lr != 1.0:
            weighted.append((1.0 - self.server_lr, start))
        found, cut = nearest(products(weighted), start.meta.rank, start.meta)
        return replace(state, adapters={GLOBAL: found}, numbers={**state.numbers, CUT: cut})
