"""RoLoRA: B and A take turns, and every round's mean is exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.averaging import Mean
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import State

_ROUND = "_round"


@dataclass(frozen=True)
class RoLora(Mean):
    """RoLoRA: all sites train B in odd rounds and A in even ones, under one other factor.

    Sent up and returned: one factor, about half of the adapter.  Exact: mean(B_k) A = mean(B_k A), and likewise for A.
    The server's cost is that of the mean.

    B comes first: while B is zero, so is the gradient of A.  Where sites take part in every second round only
    (``exchange.participation``), one may always meet the same factor.
    """

    name: ClassVar[str] = "rolora"
    citation: ClassVar[str] = "RoLoRA: Chen et al. 2025, arXiv 2502.01755"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart:
            raise ConfigError(
                "rolora cannot restart: under the initial B, which is zero, A learns nothing",
                "leave out method.options.restart, or choose ffa",
            )

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The adapter, and that round 1 comes next."""
        return replace(super().initial(adapter, ranks), numbers={_ROUND: 1.0})

    def trained(self, state: State) -> Trained:
        """The factor whose turn it is."""
        return Trained(("B",) if state.numbers[_ROUND] % 2 else ("A",))

    def absorb(self, state: State, updates: Updates) -> State:
        """The step on that factor; the other comes next."""
        after = super().absorb(state, updates)
        return replace(after, numbers={**after.numbers, _ROUND: state.numbers[_ROUND] + 1})
