"""FedSA-LoRA: A is shared, and every site keeps a B of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedse.adapters.parts import Trained
from fedse.federation.strategies.averaging import Mean
from fedse.federation.strategies.base import Sent
from fedse.runs.rounds import State


@dataclass(frozen=True)
class FedSa(Mean):
    """FedSA-LoRA: sites train A and B; A is averaged, and no B leaves its site.

    Sent up and returned: A, about half of the adapter.  There is no common product to be exact about: site k computes
    W₀ + s B_k Ā, with a B_k that it trained under its own A_k.  The server's cost is that of the mean.

    No adapter serves all sites.  What the server has, and exports, has the initial B, which is zero.
    """

    name: ClassVar[str] = "fedsa"
    citation: ClassVar[str] = "FedSA-LoRA: Guo et al. 2025, arXiv 2410.01463"
    personal: ClassVar[bool] = True

    def trained(self, state: State) -> Trained:  # noqa: ARG002
        """The A factors: what is sent is trained, and B beside it."""
        return Trained(("A",))

    def instruct(self, state: State, site: str) -> Sent:
        """A; B is the site's own, and trained as well."""
        whole, shared = super().instruct(state, site), self.trained(state)
        return Sent(shared.of(whole.adapter), start=whole.start and shared.of(whole.start))
