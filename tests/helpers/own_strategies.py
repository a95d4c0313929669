"""Two strategies as a package of its own writes them: with state at the sites, and for sites of different ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.state import SUFFIX_A, AdapterState
from fedse.federation.strategies import GLOBAL, Sent, State, Strategy, Updates
from fedse.federation.strategies.averaging import average


def mean_of(adapters: Iterable[AdapterState]) -> AdapterState:
    return average((1.0, adapter) for adapter in adapters)


@dataclass(frozen=True)
class PrivateB(Strategy):
    """FedSA-LoRA: the A factors are shared, and every site keeps B factors of its own."""

    name: ClassVar[str] = "private_b"
    citation: ClassVar[str] = "Guo et al. 2024, arXiv 2410.01463"
    personal: ClassVar[bool] = True

    def instruct(self, state: State, site: str) -> Sent:
        whole = state.adapter()
        shared = {name: array for name, array in whole.tensors.items() if name.endswith(SUFFIX_A)}
        return Sent(AdapterState(shared, whole.meta))

    def absorb(self, state: State, updates: Updates) -> State:
        whole = state.adapter()
        return State(
            {
                GLOBAL: AdapterState(
                    {**whole.tensors, **mean_of(update.adapter for update in updates.values()).tensors}, whole.meta
                )
            }
        )


@dataclass(frozen=True)
class MixedRanks(Strategy):
    """HetLoRA's truncation and zero-padding: a site has the first r rows of A and columns of B of the global adapter.

    α/r is the same everywhere, so that a component counts the same at every site.
    """

    name: ClassVar[str] = "mixed_ranks"
    citation: ClassVar[str] = "Cho et al. 2024, arXiv 2401.06432"
    mixed_ranks: ClassVar[bool] = True

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        return State({GLOBAL: adapter}, numbers={site: float(rank) for site, rank in ranks.items()})

    def instruct(self, state: State, site: str) -> Sent:
        return Sent(resized(state.adapter(), int(state.numbers[site])))

    def absorb(self, state: State, updates: Updates) -> State:
        rank = state.adapter().meta.rank
        padded = (resized(update.adapter, rank) for update in updates.values())
        return replace(state, adapters={GLOBAL: mean_of(padded)})


def resized(adapter: AdapterState, rank: int) -> AdapterState:
    tensors = {}
    for name, array in adapter.tensors.items():
        axis = 0 if name.endswith(SUFFIX_A) else 1
        kept = np.take(array, range(min(rank, array.shape[axis])), axis)
        more = [(0, rank - kept.shape[axis]) if side == axis else (0, 0) for side in (0, 1)]
        tensors[name] = np.pad(kept, more)
    return AdapterState(tensors, replace(adapter.meta, rank=rank, alpha=adapter.meta.scaling * rank))
