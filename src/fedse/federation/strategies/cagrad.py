"""CAGrad: the change near the mean that does most for the site that it does least for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State


@dataclass(frozen=True)
class CAGrad(Central):
    """The change d with the largest min_k ⟨D_k, d⟩ of all with ‖d − ḡ‖ ≤ c ‖ḡ‖, where ḡ is the mean change.

    With the weights w of the simplex that minimise ⟨g_w, ḡ⟩ + c ‖ḡ‖ ‖g_w‖, g_w = Σ w_k D_k, it is
    d = ḡ + c ‖ḡ‖ / ‖g_w‖ · g_w.  c = 0 is the mean; the larger c, the more counts the update that the mean serves
    least.  It is up to 1 + c times as long as the mean.

    Sent and returned: both factors.  Only inner products over both factors are computed with, O(K² P), and a convex
    problem of K numbers is solved.

    Attributes:
        c: how far from the mean, as a share of its length; ≥ 0.
    """

    c: float = 0.5

    name: ClassVar[str] = "cagrad"
    citation: ClassVar[str] = "CAGrad: Liu et al. 2021, arXiv 2110.14048"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.c < math.inf:
            raise ConfigError(f"c is {self.c}", "set method.options.c to a finite number, 0 or more")

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:  # noqa: D102
        stack = Stack(start, updates)
        return replace(state, adapters={GLOBAL: stack.weighted(averse_weights(stack.gram(), self.c))})


def averse_weights(gram: Matrix, c: float) -> Matrix:
    """The weights of the updates in d, shape (K,).

    Args:
        gram: inner products ⟨D_j, D_k⟩, shape (K, K).
        c: see :class:`CAGrad`.
    """
    from scipy.optimize import LinearConstraint, minimize  # half a second to import

    count = len(gram)
    even: Matrix = np.full(count, 1.0 / count)
    size = float(np.trace(gram)) / count  # the problem is solved at a scale of about 1
    length = math.sqrt(max(0.0, float(even @ gram @ even)))
    if not (c and length):
        return even
    scaled, radius = gram / size, c * length / math.sqrt(size)

    def objective(weights: Matrix) -> tuple[float, Matrix]:
        along = scaled @ weights
        norm = math.sqrt(max(float(weights @ along), 1e-24))
        return float(even @ along) + radius * norm, scaled @ even + radius / norm * along

    found = minimize(
        objective,
        even,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints=LinearConstraint(np.ones((1, count)), 1.0, 1.0),
        options={"ftol": 1e-12, "maxiter": 1000},
    ).x
    weights = np.clip(found, 0.0, None)
    norm = math.sqrt(max(0.0, float(weights @ gram @ weights)))
    # Where g_w vanishes no change is good for all, and the mean is as good as any.
    return even + (c * length / norm * weights if norm > 1e-9 * math.sqrt(size) else 0.0)
