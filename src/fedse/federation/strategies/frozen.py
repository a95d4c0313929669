"""An adapter whose first components are trained, and whose others stand behind them, frozen.

What does not fit into the trained components is kept in frozen ones, not added to the base weights.  So the base is the
same everywhere, in any precision; a site that joins late needs nothing but the adapter; and what is exported is one
adapter of peft.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from fedse.adapters.lowrank import Term, nearest, products
from fedse.adapters.parts import Trained, side_by_side
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.stepping import CUT, ProductStep
from fedse.runs.rounds import GLOBAL, State

#: In the state's numbers: how many components are trained.
TRAINED = "_trained"


@dataclass(frozen=True)
class WithFrozen(ProductStep):
    """Trained components in front, frozen ones behind.

    Attributes:
        frozen: the most frozen components; what needs more is cut by truncated SVD.
    """

    frozen: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen < 1:
            raise ConfigError(f"frozen is {self.frozen}", "set method.options.frozen to at least 1")

    def trained(self, state: State) -> Trained:
        """The components in front."""
        return Trained(ranks=tuple(range(int(state.numbers[TRAINED]))))

    def extended(self, state: State, front: AdapterState, terms: Mapping[str, Iterable[Term]], rank: int) -> State:
        """The state after a round.

        Args:
            state: before it.
            front: the new components in front.
            terms: layer → products, without the scaling, that go to what is frozen.
            rank: of their sum.
        """
        adapter, size = state.adapter(), front.meta.rank
        behind = Trained(ranks=tuple(range(size, adapter.meta.rank)))
        count = 0 if behind.ranks == () else adapter.meta.rank - size
        if not rank:
            blocks = [front, behind.of(adapter)] if count else [front]
            return State({GLOBAL: side_by_side(blocks)}, numbers={**state.numbers, CUT: 0.0})
        if count:
            kept = products([(1.0, behind.of(adapter))])
            terms = {layer: chain(kept[layer], more) for layer, more in terms.items()}
        full = max(min(len(adapter.tensors[n + SUFFIX_B]), adapter.tensors[n + SUFFIX_A].shape[1]) for n in terms)
        found, cut = nearest(terms, min(self.frozen, count + rank, full), front.meta)
        return State({GLOBAL: side_by_side([front, found])}, numbers={**state.numbers, CUT: cut})
