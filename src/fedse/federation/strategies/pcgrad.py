"""PCGrad: of two updates that oppose each other, each loses its part along the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.adapters.state import AdapterState
from fedse.federation.strategies.stack import Stack
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State
from fedse.seeding import numpy_generator

#: In the state's numbers: share of the projections that were made.
OPPOSED = "_opposed"


@dataclass(frozen=True)
class PCGrad(Central):
    """Gradient surgery on the changes D_k: x = D_i; for every other j in random order, if ⟨x, D_j⟩ < 0, then
    x ← x − ⟨x, D_j⟩ / ‖D_j‖² · D_j; the mean of all x.

    It is the mean, where no two updates oppose each other; updates of different environments mostly do not.  The number
    ``_opposed`` of the state tells in which share of the cases it did anything.

    Sent and returned: both factors.  Only inner products over both factors are computed with, O(K² P).  The order is a
    function of the state.
    """

    name: ClassVar[str] = "pcgrad"
    citation: ClassVar[str] = "PCGrad: Yu et al. 2020, arXiv 2001.06782"

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:
        """The mean of the projected changes."""
        stack = Stack(start, updates)
        seed = numpy_generator(self.name, state.adapter().digest)
        coefficients, opposed = projected(stack.gram(), seed)
        adapter = stack.weighted(coefficients.mean(axis=0))
        return replace(state, adapters={GLOBAL: adapter}, numbers={OPPOSED: opposed})


def projected(gram: Matrix, generator: np.random.Generator) -> tuple[Matrix, float]:
    """Each update without its parts against others, told by the updates themselves.

    Args:
        gram: inner products ⟨D_j, D_k⟩, shape (K, K).
        generator: of the orders in which others are looked at.

    Returns:
        c of x_i = Σ_j c_ij D_j, shape (K, K), and the share of pairs (i, j) in which x_i was opposed to D_j.
    """
    count = len(gram)
    coefficients = np.eye(count)
    opposed = 0
    for index, own in enumerate(coefficients):
        for other in generator.permutation(count):
            inner = own @ gram[:, other]
            if other != index and inner < 0 < gram[other, other]:
                own[other] -= inner / gram[other, other]
                opposed += 1
    return coefficients, opposed / max(1, count * (count - 1))
