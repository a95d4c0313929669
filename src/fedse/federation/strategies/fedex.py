"""FedEx-LoRA: what the mean of the factors misses of the mean of the products is kept beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.lowrank import Term
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.averaging import average
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.frozen import TRAINED, WithFrozen
from fedse.federation.strategies.held import held
from fedse.federation.strategies.stepping import server_step
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class FedEx(WithFrozen):
    """FedEx-LoRA: the mean of A and of B, and as frozen components what it misses of the mean of B A.

    With the server's step η a round ends at B A + η (mean(B_k A_k) − B A), whatever the drift of the sites.  The
    factors take the step of the mean, to B' and A'.  The rest, (η/K) Σ (B_k − B̄)(A_k − Ā) + (η − η²)(B̄ − B)(Ā − A), is
    added to the frozen components.

    Sent up: A and B, as with the mean.  Returned: all components; the frozen ones are new in every round, and
    (K − 1) · ``lora.rank`` more than before, up to ``frozen``.  Exact until then; later the number ``_cut`` of the
    state tells how much of the frozen part was cut in the round.  The server needs all updates at once,
    and O((out + in) R² + R³) a layer, with R = K · rank + frozen.  Sites compute with the frozen components, too.

    The paper adds the rest to the base weights.

    Attributes:
        frozen: the most frozen components.
    """

    name: ClassVar[str] = "fedex"
    citation: ClassVar[str] = "FedEx-LoRA: Singhal et al. 2025, arXiv 2410.09432"

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:  # noqa: ARG002
        """The adapter, all of whose components are trained."""
        return State({GLOBAL: adapter}, numbers={TRAINED: float(adapter.meta.rank)})

    def instruct(self, state: State, site: str) -> Sent:
        """The adapter, of which the site trains the components in front."""
        return Sent(state.adapter(site), work=Work(trained=self.trained(state)))

    def absorb(self, state: State, updates: Updates) -> State:
        """The step on the mean of the factors, and what it misses."""
        start = self.trained(state).of(state.adapter())
        sent = [adapter for adapter, _ in held(updates)]
        mean = average((1.0, adapter) for adapter in sent)
        missed = {layer: self._missed(layer, start, sent) for layer in layers(start)}
        rank = start.meta.rank * (len(sent) - (self.server_lr == 1.0))
        return self.extended(state, server_step(start, mean, self.server_lr), missed, rank)

    def _missed(self, layer: str, start: AdapterState, sent: Sequence[AdapterState]) -> Iterator[Term]:
        factors = [factors_of(adapter, layer) for adapter in sent]
        b_mean, a_mean = (np.mean(stack, axis=0) for stack in zip(*factors, strict=True))
        for b, a in factors:
            yield (self.server_lr / len(sent)) * (b - b_mean), a - a_mean
        if self.server_lr != 1.0:
            b, a = factors_of(start, layer)
            yield (self.server_lr - self.server_lr**2) * (b_mean - b), a_mean - a
