"""FLoRA: the sites' adapters are stacked, and every round begins with a fresh one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from fedse.adapters.lowrank import products
from fedse.adapters.parts import Trained, fresh_block, random_rows, resized, side_by_side
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.frozen import TRAINED, WithFrozen
from fedse.federation.strategies.held import held
from fedse.federation.strategies.ranks import as_numbers
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State

_ROUND = "_round"


@dataclass(frozen=True)
class Flora(WithFrozen):
    """FLoRA: sites train a fresh adapter in every round; the mean of their products is stacked behind it, frozen.

    A round adds exactly η mean(B_k A_k), with the server's step η.  The next one begins with a new random A, one for
    all, and a B of zero.

    Sent up: A and B of the site's rank.  Returned: all components, which are new in every round; the frozen ones are
    Σ_k r_k more than before, up to ``frozen``.  Exact until then; later the number ``_cut`` of the state tells how much
    of the frozen part was cut in the round.  The server needs all updates at once, and O((out + in) R² + R³) a
    layer, with R = Σ_k r_k + frozen.  Sites compute with the frozen components, too.

    What training had found out about good A is lost with every round, and an update of an earlier round cannot stand in
    for one that did not come.  The paper merges into the base weights, and
    weighs sites by their data.

    Attributes:
        frozen: the most frozen components.
    """

    name: ClassVar[str] = "flora"
    citation: ClassVar[str] = "FLoRA: Wang et al. 2024, arXiv 2409.05976"
    mixed_ranks: ClassVar[bool] = True
    memory: ClassVar[bool] = False

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The adapter, all of whose components are trained, and the rank of every site."""
        numbers = {TRAINED: float(adapter.meta.rank), _ROUND: 1.0}
        return State({GLOBAL: adapter}, numbers=numbers | as_numbers(ranks, adapter))

    def instruct(self, state: State, site: str) -> Sent:
        """As many fresh components as the site has, and the frozen ones behind them."""
        adapter, rank, trained = state.adapter(), int(state.numbers[site]), int(state.numbers[TRAINED])
        if rank < trained:
            front = resized(adapter, rank)
            behind = tuple(range(trained, adapter.meta.rank))
            adapter = side_by_side([front, Trained(ranks=behind).of(adapter)]) if behind else front
        return Sent(adapter, work=Work(trained=Trained(ranks=tuple(range(rank)))))

    def absorb(self, state: State, updates: Updates) -> State:
        """The mean of the products, stacked, and a fresh adapter in front."""
        sent = [(self.server_lr / len(updates), adapter) for adapter, _ in held(updates)]
        number = int(state.numbers[_ROUND]) + 1
        rows = random_rows(state.adapter(), int(state.numbers[TRAINED]), "flora", number)
        front = fresh_block(state.adapter(), rows)
        after = self.extended(state, front, products(sent), sum(adapter.meta.rank for _, adapter in sent))
        return replace(after, numbers={**after.numbers, _ROUND: float(number)})
