"""FFA-LoRA: A is frozen, and the mean of B is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedse.adapters.parts import Trained
from fedse.federation.strategies.averaging import Mean
from fedse.runs.rounds import State


@dataclass(frozen=True)
class Ffa(Mean):
    """FFA-LoRA: all sites train B under one A, which stays as it was drawn.

    Sent up: B, about half of the adapter.  Returned: B; A once.  Exact: mean(B_k) A = mean(B_k A).  The server's cost
    is that of the mean.

    With half the parameters it learns less in a step; a higher ``training.learning_rate`` makes up for some of it.
    """

    name: ClassVar[str] = "ffa"
    citation: ClassVar[str] = "FFA-LoRA: Sun et al. 2024, arXiv 2403.12313"

    def trained(self, state: State) -> Trained:  # noqa: ARG002
        """The B factors."""
        return Trained(("B",))
