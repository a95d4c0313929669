"""Iso-C and Iso-CTS: all directions of the merged change count the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedse.adapters.algebra import Matrix
from fedse.errors import ConfigError
from fedse.federation.strategies.core import NEGLIGIBLE, Core, InCoreSpace, polar, triplets


@dataclass(frozen=True)
class Iso(InCoreSpace):
    """Σ_k M_k = U Σ Vᵀ with all singular values replaced by their mean, σ̄ U Vᵀ.

    What few sites need is weak in the sum; it comes to the strength of what all need.  An adapter of rank r has room
    for r directions: the leading r of the sum are taken, and σ̄ is their mean.  (The paper merges full weights and takes
    all.)  Equal updates do not make that update.

    With ``specific`` above 0 it is Iso-CTS: some of the r directions are the leading ones of each single site in what
    the others leave of M_k, the same number for each site, and all are made orthogonal together.

    Sent and returned: both factors.  Cost: O((out + in) (K r)² + (K r)³) a layer.

    Attributes:
        specific: share of the directions that are single sites'; 0: Iso-C.  At least one for each site, if there is
            room for that.
    """

    specific: float = 0.0

    name: ClassVar[str] = "iso"
    citation: ClassVar[str] = "Iso-C, Iso-CTS: Marczak et al. 2025, arXiv 2502.04959"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.specific <= 1:
            raise ConfigError(f"specific is {self.specific}", "set method.options.specific to a number from 0 to 1")

    def merge(self, core: Core) -> tuple[Matrix, Mapping[str, float]]:  # noqa: D102
        u, values, vt = np.linalg.svd(core.total(), full_matrices=False)
        sites = len(core.lefts)
        each = min(max(1, round(self.specific * core.rank / sites)), core.rank // sites) if self.specific else 0
        common = core.rank - each * sites
        u, values, vt = u[:, :common], values[:common], vt[:common]
        if each:
            rests = [left - u @ (u.T @ left) for left in core.lefts]
            own = [triplets(rest, right) for rest, right in zip(rests, core.rights, strict=True)]
            u = polar(np.concatenate([*(part[0][:, :each] for part in own), u], axis=1))
            vt = polar(np.concatenate([*(part[2][:each] for part in own), vt], axis=0))
            values = np.concatenate([*(part[1][:each] for part in own), values])
        kept = values > NEGLIGIBLE * values.max(initial=0.0)
        if not kept.any():  # nobody moved
            return np.zeros_like(core.before), {}
        return values[kept].mean() * (u[:, kept] @ vt[kept]), {}
