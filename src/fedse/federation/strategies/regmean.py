"""RegMean in the adapter's own directions (LoRM): sites weigh by what their inputs tell of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix, layers
from fedse.adapters.parts import Trained
from fedse.adapters.state import SUFFIX_B, AdapterState
from fedse.federation.strategies.averaging import average
from fedse.federation.strategies.base import Sent
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.messages import Work
from fedse.runs.rounds import GLOBAL, State

#: Directions whose moment is below this share of the largest count as unseen.
_UNSEEN = 1e-6


@dataclass(frozen=True)
class RegMean(Central):
    """LoRM: B that answers best to the inputs of all sites, B* = (Σ B_k G_k)(Σ G_k)⁺ with G_k = A E_k[x xᵀ] Aᵀ.

    It minimises Σ_k E_k‖(B − B_k) A x‖², so that a site decides on the directions in which its inputs lie.  In
    directions in which no site has inputs, the mean of B stands.

    Sent up: A and B, and of each layer the r × r moments G_k of its inputs, seen through the A that the round began
    with.  Returned: A and B.  Not exact: it is another aim than the mean of the products.  The server needs sums alone,
    and the pseudo-inverse of one r × r matrix a layer.  The site makes one more forward pass over some examples, and
    has to disclose ``moments``.

    Attributes:
        train_a: sites train A, too, and its mean is taken, which is as inexact as with the mean; else A stays, B* is
            the minimum, and only B is sent, as with ``ffa``.
    """

    train_a: bool = True

    name: ClassVar[str] = "regmean"
    citation: ClassVar[str] = "LoRM: Salami et al. 2025, arXiv 2410.17961; RegMean: Jin et al. 2023, arXiv 2212.09849"

    def trained(self, state: State) -> Trained:  # noqa: ARG002
        """All, or B."""
        return Trained() if self.train_a else Trained(("B",))

    def instruct(self, state: State, site: str) -> Sent:
        """The adapter; the site is asked for moments."""
        sent = super().instruct(state, site)
        return replace(sent, work=Work(trained=sent.work.trained, moments="adapter"))

    def combine(self, state: State, start: AdapterState, updates: Updates) -> State:  # noqa: ARG002
        """The mean of A, and B*."""
        names = layers(state.adapter())
        answers: dict[str, Matrix] = dict.fromkeys(names, np.zeros(()))
        moments: dict[str, Matrix] = dict.fromkeys(names, np.zeros(()))

        def parts() -> Iterator[tuple[float, AdapterState]]:
            for update in updates.values():
                for layer in names:
                    gram = update.tensors[layer].astype(np.float64)
                    answers[layer] = answers[layer] + update.adapter.tensors[layer + SUFFIX_B] @ gram
                    moments[layer] = moments[layer] + gram
                yield 1.0, update.adapter

        mean = average(parts())
        best = dict(mean.tensors)
        for layer in names:
            factor_b = mean.tensors[layer + SUFFIX_B]
            inverse = np.linalg.pinv(moments[layer], rcond=_UNSEEN, hermitian=True)
            best[layer + SUFFIX_B] = (factor_b + (answers[layer] - factor_b @ moments[layer]) @ inverse).astype(
                np.float32
            )
        return replace(state, adapters={GLOBAL: AdapterState(best, mean.meta)})
