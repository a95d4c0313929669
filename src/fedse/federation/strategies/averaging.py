"""Element-wise averages of the A and the B factors, and their sum.

The mean of the factors is not the factors of the mean: with drifts A_k − Ā and B_k − B̄ of the sites,
Σ p_k B_k A_k − B̄ Ā = Σ p_k (B_k − B̄)(A_k − Ā), which is of second order in the drift.  Fed-SE accepts this error.

Sums are formed in float64 and rounded once to float32, so that the mean of equal adapters is that adapter, bit for bit.
All of them go over the updates once, and hold one sum and one update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.checks import in_words, shape_problems
from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, ConfigError
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.stepping import INITIAL, Central, server_step, to_float32
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State

__all__ = ["INITIAL", "FedProx", "Mean", "Sum", "WeightedMean", "average", "server_step"]


@dataclass(frozen=True)
class Mean(Central):
    """Fed-SE: every site counts the same, (1/K) Σ_k φ_k, whatever its number of successes.

    Sent and returned: both factors.  Cost: K·P additions.
    """

    name: ClassVar[str] = "mean"
    citation: ClassVar[str] = "Fed-SE: Chen et al. 2025, arXiv 2512.08870"

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:  # noqa: ARG002
        """The weighted mean of the updates."""
        weights = self.weights(updates.scalars)
        mean = average((weights[site], update.adapter) for site, update in updates.items())
        return replace(state, adapters={GLOBAL: mean})

    def weights(self, scalars: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
        """One for every site."""
        return dict.fromkeys(scalars, 1.0)


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
class Sum(Mean):
    """Task arithmetic: φ + server_lr · Σ_k D_k, which is the mean with a step of K.

    Nothing that one site alone has learnt is diluted, and what K sites have learnt alike counts K times.
    """

    name: ClassVar[str] = "sum"
    citation: ClassVar[str] = "Task arithmetic: Ilharco et al. 2023, arXiv 2212.04089"

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The sum of the changes."""
        mean = super().combine(state, start, updates).adapter()
        return replace(state, adapters={GLOBAL: server_step(start, mean, float(len(updates)))})


@dataclass(frozen=True)
class FedProx(Mean):
    """The mean of updates that are pulled back to where they began: each site minimises f_k(θ) + μ/2 ‖θ − φ‖².

    AdamW normalises gradients and would normalise the pull away, so it is decoupled, as weight decay is: after every
    step θ ← θ − lr·μ·(θ − φ).  Over the steps of an update with learning rates lr_t a drift so shrinks by a factor of
    about exp(−μ Σ lr_t), if nothing renews it.

    Attributes:
        mu: μ; 0 is the mean.  With Σ lr_t = 10⁻², a value of 10 is a pull of a tenth.
    """

    mu: float = 10.0

    name: ClassVar[str] = "fedprox"
    citation: ClassVar[str] = "FedProx: Li et al. 2020, arXiv 1812.06127"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mu < math.inf:
            raise ConfigError(f"mu is {self.mu}", "set method.options.mu to a finite number, 0 or more")

    def instruct(self, state: State, site: str) -> Sent:
        """The global adapter, and the pull."""
        return replace(super().instruct(state, site), work=Work(proximal=self.mu))


def average(terms: Iterable[tuple[float, AdapterState]]) -> AdapterState:
    """Σ w_k φ_k / Σ w_k, summed in the order of the terms.

    Whatever their number, it holds one sum, in float64.

    Args:
        terms: weights w_k ≥ 0, not all 0, and adapters φ_k with the same names and shapes; at least one.

    Raises:
        AdapterError: if the adapters differ in names or shapes, or the mean leaves the range of float32.
    """
    rest = iter(terms)
    total, first = next(rest)
    # Begun with the first term rather than with zero, which would turn −0 into +0.
    sums = {name: np.multiply(tensor, total, dtype=np.float64) for name, tensor in first.tensors.items()}
    for weight, adapter in rest:
        problems = shape_problems(adapter, first)
        if problems:
            raise AdapterError(
                f"these adapters have no mean: {in_words(problems)}", "bring all to the same names and shapes first"
            )
        total += weight
        for name, exact in sums.items():
            tensor = adapter.tensors[name]
            exact += tensor if weight == 1.0 else np.multiply(tensor, weight, dtype=np.float64)
    for exact in sums.values():
        exact /= total
    return AdapterState({name: to_float32(name, exact) for name, exact in sums.items()}, first.meta)
