"""Consensus scaling: a direction that one site moves along is taken whole, one that all agree on is averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix, product_inner
from fedse.federation.strategies.core import NEGLIGIBLE, Core, InCoreSpace

#: In the state's numbers, before a whole number n: the share of Σ_k M_k, by squares, along which n sites agree.
AGREEMENT = "_agreement/"


@dataclass(frozen=True)
class Consensus(InCoreSpace):
    """Σ_k M_k = Σ_j σ_j p_j q_jᵀ becomes Σ_j σ_j / n_j p_j q_jᵀ, where n_j in [1, K] is how many sites agree on j.

    With the coefficients c_kj = p_jᵀ M_k q_j of the sites, n_j = (Σ_k |c_kj|)² / Σ_k c_kj²: 1 if one site alone moves
    along the direction, K if all do so equally.  Equal updates make that update, updates that have nothing to do with
    each other their sum: what one site has learnt is not diluted, and what all have learnt does not count K times.

    In a layer the result is never longer than √K · median ‖M_k‖, which is the length of the sum of orthogonal changes.

    The numbers ``_agreement/n`` of the state are the histogram of n_j, rounded, of the round: shares of ‖Σ_k M_k‖² over
    all layers.  If all of it is at 1, this is the mean with a step of K.  Directions of nearly equal σ_j are not well
    defined: the SVD then mixes what single sites move along, and n_j is larger than it would be for the sites' own
    directions.

    Sent and returned: both factors.  Cost: O((out + in) (K r)² + (K r)³) a layer.
    """

    name: ClassVar[str] = "consensus"
    citation: ClassVar[str] = "fedse; core space after Panariello et al. 2025, arXiv 2509.17786"

    def merge(self, core: Core) -> tuple[Matrix, Mapping[str, float]]:  # noqa: D102
        u, values, vt = np.linalg.svd(core.total(), full_matrices=False)
        kept = values > NEGLIGIBLE * values.max(initial=0.0)
        u, values, vt = u[:, kept], values[kept], vt[kept]
        sites = range(len(core.lefts))
        each = np.stack([np.sum((u.T @ core.lefts[k]) * (core.rights[k] @ vt.T).T, axis=1) for k in sites])
        agreement = np.abs(each).sum(axis=0) ** 2 / np.square(each).sum(axis=0)
        scaled = values / agreement
        lengths = [
            math.sqrt(max(0.0, product_inner(left, right, left, right)))
            for left, right in zip(core.lefts, core.rights, strict=True)
        ]
        bound, length = math.sqrt(len(sites)) * float(np.median(lengths)), float(np.linalg.norm(scaled))
        if length > bound:
            scaled *= bound / length
        told: dict[str, float] = {}
        for near, square in zip(np.rint(agreement).astype(int), np.square(values), strict=True):
            told[f"{AGREEMENT}{near}"] = told.get(f"{AGREEMENT}{near}", 0.0) + float(square)
        return (u * scaled) @ vt, told

    def noted(self, sums: Mapping[str, float]) -> Mapping[str, float]:
        """Shares of all layers."""
        whole = math.fsum(sums.values())
        return {name: square / whole for name, square in sums.items() if whole}
