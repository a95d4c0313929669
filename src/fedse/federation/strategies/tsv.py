"""TSV-M: the leading directions of each site, made orthogonal to those of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.federation.strategies.core import NEGLIGIBLE, Core, InCoreSpace, polar, triplets


@dataclass(frozen=True)
class TSV(InCoreSpace):
    """Task singular vectors: with M_k = U_k Σ_k V_kᵀ, Û diag(Σ_1 … Σ_K) V̂ᵀ, where Û and V̂ are the polar factors of
    [U_1 … U_K] and [V_1 … V_K].  All 2 r directions of an M_k take part; the paper, for full weights, takes as many as
    1/K of a layer has.

    Orthogonal changes make their sum.  Where sites share a direction, its copies become one, so that equal updates make
    that update.  All directions that are not quite the same are made orthogonal, however little they differ.

    Sent and returned: both factors.  Cost: O((out + in) (K r)² + (K r)³) a layer.
    """

    name: ClassVar[str] = "tsv"
    citation: ClassVar[str] = "TSV-Merge: Gargiulo et al. 2025, arXiv 2412.00081"

    def merge(self, core: Core) -> tuple[Matrix, Mapping[str, float]]:  # noqa: D102
        own = [triplets(left, right) for left, right in zip(core.lefts, core.rights, strict=True)]
        # Directions without strength would take part in what is made orthogonal.
        least = NEGLIGIBLE * max(values[0] for _, values, _ in own)
        counting = [np.flatnonzero(values > least) for _, values, _ in own]
        u = polar(np.concatenate([part[0][:, kept] for part, kept in zip(own, counting, strict=True)], axis=1))
        vt = polar(np.concatenate([part[2][kept] for part, kept in zip(own, counting, strict=True)], axis=0))
        values = np.concatenate([part[1][kept] for part, kept in zip(own, counting, strict=True)])
        return (u * values) @ vt, {}
