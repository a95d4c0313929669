"""HetLoRA: sites of different ranks share the components that they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix, factors_of, layers, product_inner
from fedse.adapters.parts import Trained, rank_axis, resized
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.ranks import as_numbers
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class HetLora(Central):
    """HetLoRA: a site of rank r has the first r components of the global adapter; each is averaged by who has it.

    alpha / rank is the same at every site, so that a component counts the same everywhere.  A site weighs as the norm
    of its product, ‖B_k A_k‖, over all layers: a sparse one, that hardly learnt, counts less.  A component is divided
    by the weights of the sites that have it; the paper divides by all, and so shrinks what few sites have.

    Sent up and returned: A and B of the site's rank.  Not exact, like the mean.  The server's cost is that of the mean,
    and one pass over the products' norms.  The paper's pruning of a site's rank, a term in its loss, is not here.

    Attributes:
        sparsity: weigh by the norm; else all sites weigh the same.
    """

    sparsity: bool = True

    name: ClassVar[str] = "hetlora"
    citation: ClassVar[str] = "HetLoRA: Cho et al. 2024, arXiv 2401.06432"
    mixed_ranks: ClassVar[bool] = True

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The adapter, and the rank of every site."""
        return replace(super().initial(adapter, ranks), numbers=as_numbers(ranks, adapter))

    def instruct(self, state: State, site: str) -> Sent:
        """As many components as the site has."""
        whole, rank = super().instruct(state, site), int(state.numbers[site])
        return Sent(resized(whole.adapter, rank), start=whole.start and resized(whole.start, rank))

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The means of the components; one that no site sent stays as it is."""
        sums: dict[str, Matrix] = {name: np.zeros(array.shape) for name, array in start.tensors.items()}
        totals = np.zeros(start.meta.rank)
        for update in updates.values():
            adapter = update.adapter
            weight = _norm(adapter) if self.sparsity else 1.0
            totals[: adapter.meta.rank] += weight
            for name, array in adapter.tensors.items():
                sums[name][tuple(map(slice, array.shape))] += weight * array.astype(np.float64)
        means = {name: array.copy() for name, array in start.tensors.items()}
        sent = Trained(ranks=tuple(np.flatnonzero(totals).tolist()))
        for name, total in sums.items():
            axis, index = rank_axis(name), sent.index(name)
            assert index is not None  # both factors are in it
            means[name][index] = total[index] / np.expand_dims(totals[totals > 0], 1 - axis)
        return replace(state, adapters={GLOBAL: AdapterState(means, start.meta)})


def _norm(adapter: AdapterState) -> float:
    """‖B A‖ over all layers."""
    squares = (product_inner(b, a, b, a) for b, a in (factors_of(adapter, layer) for layer in layers(adapter)))
    return float(np.sqrt(max(0.0, sum(squares))))
