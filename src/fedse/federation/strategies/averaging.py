"""Element-wise averages of the A and the B factors, and the server's step.

The mean of the factors is not the factors of the mean: with drifts A_k − Ā and B_k − B̄ of the sites,
Σ p_k B_k A_k − B̄ Ā = Σ p_k (B_k − B̄)(A_k − Ā), which is of second order in the drift.  Fed-SE accepts this error.

Sums are formed in float64 and rounded once to float32, so that the mean of equal adapters is that adapter, bit for bit.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.checks import in_words, shape_problems
from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, ConfigError
from fedse.federation.strategies.base import Sent, Strategy
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State
from fedse.types import FloatArray

#: The adapter that the run began with; no site's name begins so.
INITIAL = "_initial"
#: In a state's numbers: how much a truncated SVD cut off in the last round, over the norm of what it was to fit.
CUT = "_cut"

_Float64Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Stepping(Strategy):
    """A server that goes a step from where the updates began towards what it makes of them.

    Attributes:
        server_lr: the step; 1 takes what is made of the updates as it is.
    """

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.server_lr < math.inf:
            raise ConfigError(
                f"server_lr is {self.server_lr}", "set method.options.server_lr to a finite number above 0"
            )


@dataclass(frozen=True)
class Mean(Stepping):
    """Fed-SE: every site counts the same, (1/K) Σ_k φ_k, whatever its number of successes.

    Attributes:
        server_lr: the server's step on the mean change; 1 takes the mean as it is.
        restart: local updates begin from the initial adapter in every round, and the server's step with them;
            exploration plays with the current adapter either way.
    """

    restart: bool = False

    name: ClassVar[str] = "mean"
    citation: ClassVar[str] = "Fed-SE: Chen et al. 2025, arXiv 2512.08870"

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:  # noqa: ARG002
        """The initial adapter; kept for good where updates restart from it."""
        return State({GLOBAL: adapter} | ({INITIAL: adapter} if self.restart else {}))

    def instruct(self, state: State, site: str) -> Sent:
        """The global adapter, and where the update begins."""
        return Sent(state.adapter(site), start=state.adapters.get(INITIAL))

    def absorb(self, state: State, updates: Updates) -> State:
        """The server's step towards the weighted mean of the updates."""
        start = state.adapters[INITIAL if self.restart else GLOBAL]
        weights = self.weights(updates.scalars)
        combined = average((weights[site], update.adapter) for site, update in updates.items())
        return replace(state, adapters={**state.adapters, GLOBAL: server_step(start, combined, self.server_lr)})

    def weights(self, scalars: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
        """One for every site."""
        return dict.fromkeys(scalars, 1.0)

    def begins_at(self, number: int) -> int:
        """The beginning where updates restart, else the round before."""
        return 0 if self.restart else number - 1


@dataclass(frozen=True)
class WeightedMean(Mean):
    """FedIT: sites weigh as their numbers of training trajectories n_k, Σ_k n_k φ_k / Σ_k n_k.

    If no site has any, they count the same: each sends back the adapter that its update began from.
    """

    name: ClassVar[str] = "weighted_mean"
    citation: ClassVar[str] = "FedIT: Zhang et al. 2023, arXiv 2305.05644"
    needs: ClassVar[frozenset[str]] = frozenset({"examples"})

    def weights(self, scalars: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
        """The numbers of trajectories, over the largest: equal weights are exactly 1, and huge ones cannot overflow."""
        largest = max(told["examples"] for told in scalars.values())
        return {site: told["examples"] / largest if largest else 1.0 for site, told in scalars.items()}


@dataclass(frozen=True)
class MeanOfPart(Stepping):
    """The server's step on the mean of one part of the adapter; the rest stays as it is."""

    @abstractmethod
    def trained(self, state: State) -> Trained:
        """The part that all sites train in the next round, and send back."""

    def instruct(self, state: State, site: str) -> Sent:
        """The adapter, of which the site trains the part."""
        return Sent(state.adapter(site), work=Work(trained=self.trained(state)))

    def absorb(self, state: State, updates: Updates) -> State:
        """The step on the part."""
        adapter, part = state.adapter(), self.trained(state)
        mean = average((1.0, update.adapter) for update in updates.values())
        stepped = server_step(part.of(adapter), mean, self.server_lr)
        return replace(state, adapters={**state.adapters, GLOBAL: part.into(adapter, stepped)})


def average(terms: Iterable[tuple[float, AdapterState]]) -> AdapterState:
    """Σ w_k φ_k / Σ w_k, summed in the order of the terms.

    Whatever their number, it holds one sum and one term, as flat arrays of float64.

    Args:
        terms: weights w_k ≥ 0, not all 0, and adapters φ_k with the same names and shapes; at least one.

    Raises:
        AdapterError: if the adapters differ in names or shapes, or the mean leaves the range of float32.
    """
    rest = iter(terms)
    total, first = next(rest)
    # Begun with the first term rather than with zero, which would turn −0 into +0.
    exact = _flat(first)
    exact *= total
    term = np.empty_like(exact)
    for weight, adapter in rest:
        problems = shape_problems(adapter, first)
        if problems:
            raise AdapterError(
                f"these adapters have no mean: {in_words(problems)}", "bring all to the same names and shapes first"
            )
        total += weight
        _flat(adapter, out=term)
        if weight != 1.0:
            term *= weight
        exact += term
    exact /= total
    ends = np.cumsum([tensor.size for tensor in first.tensors.values()])
    averaged = {
        name: _to_float32(name, part.reshape(tensor.shape))
        for (name, tensor), part in zip(first.tensors.items(), np.split(exact, ends[:-1]), strict=True)
    }
    return AdapterState(averaged, first.meta)


def _flat(adapter: AdapterState, out: _Float64Array | None = None) -> _Float64Array:
    """All values in the order of the names, in one array: many small tensors would each cost a call."""
    tensors = [tensor.reshape(-1) for tensor in adapter.tensors.values()]
    return np.concatenate(tensors, dtype=np.float64) if out is None else np.concatenate(tensors, out=out)


def server_step(start: AdapterState, combined: AdapterState, server_lr: float) -> AdapterState:
    """The next adapter, φ + server_lr · (φ̄ − φ); a step of 1 gives exactly ``combined``.

    The mean delta seen as a pseudo-gradient is from Reddi et al. 2021, "Adaptive Federated Optimization",
    arXiv 2003.00295; a step above 1 counters the dilution of early updates by averaging.

    Args:
        start: φ, the adapter that the updates began from.
        combined: φ̄, with the same names and shapes.
        server_lr: the step, > 0.

    Raises:
        AdapterError: if the step leaves the range of float32.
    """
    if server_lr == 1.0:
        return combined
    stepped: dict[str, FloatArray] = {}
    for name, tensor in start.tensors.items():
        exact = tensor.astype(np.float64)
        exact += server_lr * (combined.tensors[name].astype(np.float64) - exact)
        stepped[name] = _to_float32(name, exact)
    return AdapterState(stepped, combined.meta)


def _to_float32(name: str, exact: _Float64Array) -> FloatArray:
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise AdapterError(f"{name} leaves the range of float32 in aggregation", "lower method.options.server_lr")
    return rounded
