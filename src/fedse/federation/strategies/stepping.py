"""One adapter for all sites: where updates begin, and the server's step towards what they make together."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, ConfigError
from fedse.federation.strategies.base import Sent, Strategy
from fedse.federation.strategies.updates import Updates
from fedse.messages import Update, Work
from fedse.runs.rounds import GLOBAL, State
from fedse.types import FloatArray

#: The adapter that the run began with; no site's name begins so.
INITIAL = "_initial"
#: In the state's numbers, where the step chooses itself: κ of the round, and the step that was made.
KAPPA, STEP = "_kappa", "_server_lr"
#: Likewise: how much a truncated SVD cut off in the round, over the norm of what it was to fit.
CUT = "_cut"
#: Before a site's name, likewise: how much its update counted in the round.
COUNTS = "_counts/"


@dataclass(frozen=True)
class Central(Strategy):
    """Sites begin from one adapter φ, and the server steps from it towards what the updates make together.

    Attributes:
        server_lr: the step on the combined change; 1 takes it as it is.  ``auto`` takes 1/κ of the round, between 1 and
            √K, where κ = ‖combined change‖ / mean ‖D_k‖ over both factors: the step is then as long as the update of a
            site.  Nearly orthogonal updates, whose mean is 1/√K as long as each of them, so get a step of √K.
        restart: local updates begin from the initial adapter in every round, and the server's step with them;
            exploration plays with the current adapter either way.
    """

    server_lr: float | Literal["auto"] = 1.0
    restart: bool = False

    def __post_init__(self) -> None:
        if self.server_lr != "auto":
            check_step(self.server_lr, ", or to auto")

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:  # noqa: ARG002
        """The initial adapter; kept for good where updates restart from it."""
        return State({GLOBAL: adapter} | ({INITIAL: adapter} if self.restart else {}))

    def trained(self, state: State) -> Trained:  # noqa: ARG002
        """The part that all sites train in the next round, and that the server steps on; default: all."""
        return Trained()

    def instruct(self, state: State, site: str) -> Sent:
        """The global adapter, where the update begins, and what is trained."""
        return Sent(state.adapter(site), start=state.adapters.get(INITIAL), work=Work(trained=self.trained(state)))

    def start(self, state: State) -> AdapterState:
        """Where the updates of the next round begin."""
        return state.adapters[INITIAL if self.restart else GLOBAL]

    @abstractmethod
    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The state with what a whole step leads to, of the part that is trained, as the global adapter.

        Args:
            state: after the round before.
            start: φ, the part from which the updates began.
            updates: of the round.
        """

    def absorb(self, state: State, updates: Updates) -> State:
        """The server's step towards what the updates make together."""
        part = self.trained(state)
        start = part.of(self.start(state))
        lengths: dict[str, float] = {}
        if self.server_lr == "auto":
            updates = self._measured(state, updates, lengths)
        combined = self.combine(state, start, updates)
        step, told = server_step_size(self.server_lr, lengths.values(), start, combined.adapter())
        stepped = part.into(state.adapters[GLOBAL], server_step(start, combined.adapter(), step))
        return replace(combined, adapters={**state.adapters, GLOBAL: stepped}, numbers={**combined.numbers, **told})

    def begins_at(self, number: int) -> int:
        """The beginning where updates restart, else the round before."""
        return 0 if self.restart else number - 1

    def _measured(self, state: State, updates: Updates, lengths: dict[str, float]) -> Updates:
        """The same updates, whose lengths are noted as they are loaded."""

        def load(site: str) -> Update:
            update = updates[site]
            lengths[site] = distance(self.instruct(state, site).base, update.adapter)
            return update

        return Updates(updates.scalars, load)


@dataclass(frozen=True)
class ProductStep(Strategy):
    """The server steps on the products B A, and not on the factors.

    Attributes:
        server_lr: the step on the mean change of the products; 1 takes their mean as it is.
    """

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        check_step(self.server_lr)


def check_step(server_lr: float, more: str = "") -> None:
    """Refuse a step that is none.

    Args:
        server_lr: the step.
        more: what else may be set.

    Raises:
        ConfigError: if it is not a finite number above 0.
    """
    if not 0 < server_lr < math.inf:
        raise ConfigError(f"server_lr is {server_lr}", f"set method.options.server_lr to a finite number above 0{more}")


def counted(counts: Mapping[str, float]) -> Mapping[str, float]:
    """How much the update of each site counted, as numbers of a state."""
    return {COUNTS + site: count for site, count in counts.items()}


def server_step_size(
    server_lr: float | Literal["auto"], lengths: Iterable[float], start: AdapterState, combined: AdapterState
) -> tuple[float, Mapping[str, float]]:
    """The step of a round, and what is noted of it where it chooses itself.

    Args:
        server_lr: the step, or that it chooses itself: 1/κ, between 1 and √K.
        lengths: ‖D_k‖ of the K updates; looked at only where the step chooses itself.
        start: φ.
        combined: where a whole step leads.
    """
    if server_lr != "auto":
        return server_lr, {}
    measured = list(lengths)
    mean = math.fsum(measured) / len(measured)
    if not mean:  # nobody moved
        return 1.0, {STEP: 1.0}
    kappa = distance(start, combined) / mean
    largest = math.sqrt(len(measured))
    step = min(max(1.0 / kappa, 1.0), largest) if kappa else largest
    return step, {KAPPA: kappa, STEP: step}


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
        stepped[name] = to_float32(name, exact)
    return AdapterState(stepped, combined.meta)


def distance(one: AdapterState, other: AdapterState) -> float:
    """‖θ − φ‖ over all tensors, in float64; both have the same names and shapes."""
    squares = (np.square(other.tensors[name] - array.astype(np.float64)).sum() for name, array in one.tensors.items())
    return math.sqrt(math.fsum(squares))


def flat(adapter: AdapterState) -> Matrix:
    """All values in the order of the names, in one array."""
    return np.concatenate([tensor.reshape(-1) for tensor in adapter.tensors.values()], dtype=np.float64)


def unflat(values: Matrix, like: AdapterState) -> AdapterState:
    """The inverse of :func:`flat`, in the shapes of an adapter.

    Raises:
        AdapterError: if the values leave the range of float32.
    """
    ends = np.cumsum([tensor.size for tensor in like.tensors.values()])
    parts = zip(like.tensors.items(), np.split(values, ends[:-1]), strict=True)
    return AdapterState(
        {name: to_float32(name, part.reshape(tensor.shape)) for (name, tensor), part in parts}, like.meta
    )


def to_float32(name: str, exact: Matrix) -> FloatArray:
    """A tensor, rounded once.

    Raises:
        AdapterError: if it leaves the range of float32.
    """
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise AdapterError(f"{name} leaves the range of float32 in aggregation", "lower method.options.server_lr")
    return rounded
