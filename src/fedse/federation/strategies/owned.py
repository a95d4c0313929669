"""Shared and owned blocks: what sites have in common is averaged, what is a site's own is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.moments import directions, separating, widths
from fedse.adapters.parts import Trained, fresh_block, random_rows, side_by_side
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import Mean, average
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.ranks import own_components
from fedse.federation.strategies.stepping import distance, server_step, server_step_size
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State
from fedse.types import FloatArray

#: In the state's arrays: the sum of the moments of a layer over the sites that told them.
_SUM = "moments/"
#: In the state's numbers, where no site has such a name: components that are shared, those of a block, how many sites
#: told moments, and that a site's block has its rows.  Under a site's own name it has the first component of the block.
_SHARED, _OWN, _TOLD, _HAS = "_shared", "_own", "_told", "_has/"
#: √E‖row‖² of a fresh A, whose values are uniform within ±1/√in.
_ROW_LENGTH = 3**-0.5


@dataclass(frozen=True)
class Owned(Mean):
    """W = W₀ + s(B_s A_s + Σ_k B_k A_k): all sites train the shared block s, and site k its own block k beside it.

    The other sites' blocks are active and frozen while a site plays and trains.  The server averages the shared block
    and takes every owner's block whole, so that nothing that one site alone has learnt is diluted.

    Blocks of random A disturb each other as whole updates do: at any input, all of them answer.  So a block waits until
    its owner has told second moments of its layers' inputs, in the first round that it takes part in.  The rows of A_k
    then are the directions in which the inputs of site k are large beside those of all sites
    (:func:`fedse.adapters.moments.separating`).  Orthogonal parameters are not enough, inputs decide: OSRM (arXiv
    2505.22934).

    Sent up: A and B of the shared block, and B of the own one; once, in the first round, the moments.  Returned: all
    blocks.  Cost: that of the mean, and once O(moments³) a site and layer.  With k components in a block the global
    adapter has ``lora.rank`` + (sites − 1) · k.

    Only B of a block is trained: within a few rounds the rows of a trained A would turn away from where they separate.

    Attributes:
        own: share of the ``lora.rank`` components that are a site's own; the others are shared.
        moments: random directions in which inputs are told; 0: blocks begin with random A.
        ridge: the larger it is, the more of its owner's inputs a block sees, and the more of others'.
        server_lr: the server's step on the shared block.
    """

    own: float = 0.75
    moments: int = 192
    ridge: float = 0.1

    name: ClassVar[str] = "owned"
    citation: ClassVar[str] = "fedse; after OSRM (arXiv 2505.22934) and FedALT (arXiv 2503.11880)"

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The shared block of the adapter, and a block without effect for every site."""
        rank = adapter.meta.rank
        own = own_components(self.own, rank)
        sites = sorted(ranks)
        blocks = [fresh_block(adapter, random_rows(adapter, own, "owned", site)) for site in sites]
        begins = {site: float(rank - own + index * own) for index, site in enumerate(sites)}
        whole = side_by_side([Trained(ranks=tuple(range(rank - own))).of(adapter), *blocks])
        return State({GLOBAL: whole}, numbers={_SHARED: float(rank - own), _OWN: float(own), **begins})

    def instruct(self, state: State, site: str) -> Sent:
        """The whole adapter, of which the site trains the shared block and its own."""
        moments = self.moments if self._waits(state, site) else 0
        return Sent(state.adapter(), work=Work(trained=self._part(state, site), moments=moments))

    def absorb(self, state: State, updates: Updates) -> State:
        """The server's step on the shared block; of every owner's block the owner's."""
        adapter, shared = state.adapter(), self._shared(state)
        own: dict[str, AdapterState] = {}
        told: dict[str, Mapping[str, FloatArray]] = {}
        start, lengths = shared.of(adapter), list[float]()

        def shared_parts() -> Iterator[tuple[float, AdapterState]]:
            for site, update in updates.items():
                whole = self._part(state, site).into(adapter, update.adapter)
                if self._waits(state, site):
                    told[site] = update.tensors
                else:
                    own[site] = self._owned(state, site).of(whole)
                part = shared.of(whole)
                if self.server_lr == "auto":
                    lengths.append(distance(start, part))
                yield 1.0, part

        mean = average(shared_parts())
        step, noted = server_step_size(self.server_lr, lengths, start, mean)
        after = shared.into(adapter, server_step(start, mean, step))
        for site, block in own.items():
            after = self._owned(state, site).into(after, block)
        stepped = replace(state, adapters={GLOBAL: after}, numbers={**state.numbers, **noted})
        return self._separated(stepped, told) if told else stepped

    def _part(self, state: State, site: str) -> Trained:
        """What a site trains.  The A of its own block stay where they tell its inputs from others'."""
        shared = self._shared(state)
        if self._waits(state, site):
            return shared
        own = self._owned(state, site).ranks
        assert shared.ranks is not None
        assert own is not None
        return Trained(ranks=shared.ranks + own, b_only=own if self.moments else ())

    def _separated(self, state: State, told: Mapping[str, Mapping[str, FloatArray]]) -> State:
        """The state with rows of A for the blocks of the sites that told moments."""
        count = state.numbers.get(_TOLD, 0.0) + len(told)
        sums = dict(state.arrays)
        for moments in told.values():
            for layer, array in moments.items():
                sums[_SUM + layer] = sums.get(_SUM + layer, np.zeros_like(array)) + array
        adapter, own = state.adapter(), int(state.numbers[_OWN])
        for site, moments in told.items():
            rows = {}
            for layer, width in widths(adapter).items():
                basis = separating(moments[layer], sums[_SUM + layer] / count, own, ridge=self.ridge)
                rows[layer] = np.float32(_ROW_LENGTH) * (basis @ directions(layer, width, self.moments))
            adapter = self._owned(state, site).into(adapter, fresh_block(adapter, rows))
        numbers = {**state.numbers, _TOLD: count, **{_HAS + site: 1.0 for site in told}}
        return State({GLOBAL: adapter}, sums, numbers)

    def _waits(self, state: State, site: str) -> bool:
        return bool(self.moments) and _HAS + site not in state.numbers

    def _shared(self, state: State) -> Trained:
        return Trained(ranks=tuple(range(int(state.numbers[_SHARED]))))

    def _owned(self, state: State, site: str) -> Trained:
        begin = int(state.numbers[site])
        return Trained(ranks=tuple(range(begin, begin + int(state.numbers[_OWN]))))
