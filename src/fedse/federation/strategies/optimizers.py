"""Server optimizers: the mean change of a round as a pseudo-gradient, with moments that last over the rounds.

All of them send and return both factors, go over the updates once, and keep one or two arrays as large as an adapter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.averaging import Mean
from fedse.federation.strategies.stepping import flat, unflat
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State

#: Where the state's arrays have the moments of a tensor.
_FIRST, _SECOND = "momentum/", "squares/"
#: Kind of moment → its values, flat.
_Moments = Mapping[str, Matrix]


@dataclass(frozen=True)
class _Optimizer(Mean):
    """Steps along what is made of the mean change and of the moments that earlier rounds left."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restart:
            raise ConfigError(
                f"strategy {self.name!r} cannot restart: it remembers changes that followed one upon another",
                "leave out method.options.restart",
            )

    @abstractmethod
    def moments(self, change: Matrix, state: State, like: AdapterState) -> _Moments:
        """The moments after a round with this mean change."""

    def direction(self, moments: _Moments) -> Matrix:
        """Where a step of 1 leads."""
        return moments[_FIRST]

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """φ and the direction; the moments go into the state."""
        begin, mean = flat(start), flat(super().combine(state, start, updates).adapter())
        moments = self.moments(mean - begin, state, start)
        arrays = {
            kind + name: array for kind in moments for name, array in unflat(moments[kind], start).tensors.items()
        }
        moved = unflat(begin + self.direction(moments), start)
        return replace(state, adapters={GLOBAL: moved}, arrays={**state.arrays, **arrays})


@dataclass(frozen=True)
class FedAvgM(_Optimizer):
    """Server momentum: m ← β m + Δ, φ ← φ + server_lr · m, where Δ is the mean change.

    In a steady direction the steps add up to server_lr / (1 − β) of a mean.

    Attributes:
        server_lr: the step; ``auto`` makes m as long as the update of a site.
        restart: must be false.
        beta: β, from 0 to below 1; 0 is the mean.
    """

    server_lr: float | Literal["auto"] = 0.2
    beta: float = 0.9

    name: ClassVar[str] = "fedavgm"
    citation: ClassVar[str] = "FedAvgM: Hsu et al. 2019, arXiv 1909.06335"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("beta", self.beta)

    def moments(self, change: Matrix, state: State, like: AdapterState) -> _Moments:  # noqa: D102
        return {_FIRST: self.beta * _kept(state, _FIRST, like) + change}


@dataclass(frozen=True)
class FedAdam(_Optimizer):
    """Adam at the server: m ← β₁ m + (1 − β₁) Δ, v ← β₂ v + (1 − β₂) Δ², φ ← φ + server_lr · m / (√v + τ).

    v begins as τ².  Every value moves by about the step, so that the step has the size of a change and not of a factor:
    the root mean square of Δ is about half of the sum of the sites' learning rates.  With a τ far above that, it is
    FedAvgM with the step server_lr / τ.

    Attributes:
        server_lr: the step.
        restart: must be false.
        beta1: β₁, from 0 to below 1.
        beta2: β₂, likewise.
        tau: τ > 0, how large a value of √v must be to count.
    """

    server_lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-4

    name: ClassVar[str] = "fedadam"
    citation: ClassVar[str] = "FedAdam: Reddi et al. 2021, arXiv 2003.00295"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("beta1", self.beta1)
        _check_share("beta2", self.beta2)
        if not 0 < self.tau < math.inf:
            raise ConfigError(f"tau is {self.tau}", "set method.options.tau to a finite number above 0")

    def moments(self, change: Matrix, state: State, like: AdapterState) -> _Moments:  # noqa: D102
        first = self.beta1 * _kept(state, _FIRST, like) + (1 - self.beta1) * change
        second = self._second(_kept(state, _SECOND, like, self.tau**2), np.square(change))
        return {_FIRST: first, _SECOND: second}

    def direction(self, moments: _Moments) -> Matrix:  # noqa: D102
        return np.asarray(moments[_FIRST] / (np.sqrt(moments[_SECOND]) + self.tau))

    def _second(self, before: Matrix, squares: Matrix) -> Matrix:
        return self.beta2 * before + (1 - self.beta2) * squares


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedAdam with v ← v − (1 − β₂) Δ² sign(v − Δ²), which forgets large squares more slowly."""

    name: ClassVar[str] = "fedyogi"
    citation: ClassVar[str] = "FedYogi: Reddi et al. 2021, arXiv 2003.00295"

    def _second(self, before: Matrix, squares: Matrix) -> Matrix:
        return np.asarray(before - (1 - self.beta2) * squares * np.sign(before - squares))


def _kept(state: State, kind: str, like: AdapterState, default: float = 0.0) -> Matrix:
    """Moments of the round before, flat; in the first round, all of one value."""
    parts = [
        state.arrays[kind + name].reshape(-1) if kind + name in state.arrays else np.full(tensor.size, default)
        for name, tensor in like.tensors.items()
    ]
    return np.concatenate(parts, dtype=np.float64)


def _check_share(option: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{option} is {value}", f"set method.options.{option} to a number from 0 to below 1")
