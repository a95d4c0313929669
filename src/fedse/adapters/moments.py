"""Second moments of what goes into the adapted layers, seen through a few directions.

Of inputs x of a layer and directions D (m, in), the moments are M = E[(D x)(D x)ᵀ], shape (m, m): so much can be told
of where inputs lie without telling any of them.  With random D they are a sketch of E[x xᵀ], the same D for all sites;
with D = A, the adapter's own factor, M is the Gram matrix that RegMean weighs with (Jin et al. 2023, arXiv 2212.09849).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.seeding import numpy_generator
from fedse.types import FloatArray


@lru_cache(maxsize=1024)
def directions(layer: str, width: int, count: int) -> FloatArray:
    """Orthonormal random directions for a layer, shape (min(count, width), width): the same wherever they are drawn."""
    drawn = numpy_generator("moments", layer, width).standard_normal((width, min(count, width)))
    found = np.linalg.qr(drawn)[0].T.astype(np.float32)
    found.flags.writeable = False
    return found


def separating(own: FloatArray, all_sites: FloatArray, rank: int, *, ridge: float) -> FloatArray:
    """Directions in which a site's inputs are large beside those of all sites, orthonormal, shape (rank, m).

    They span the leading generalised eigenvectors of (M_own, M_all + ridge · mean(diag M_all) · 1).  A block whose A
    has these rows sees its owner's inputs, and hardly any other's.

    Args:
        own: the site's moments, shape (m, m).
        all_sites: their mean over all sites, shape (m, m).
        rank: how many, ≤ m.
        ridge: keeps directions in which hardly any input lies from being chosen.
    """
    both = all_sites.astype(np.float64)
    both += ridge * np.trace(both) / len(both) * np.eye(len(both))
    inverse = np.linalg.inv(np.linalg.cholesky(both))
    _, vectors = np.linalg.eigh(inverse @ own.astype(np.float64) @ inverse.T)
    basis, signs = np.linalg.qr(inverse.T @ vectors[:, : -rank - 1 : -1])
    return np.asarray((basis * np.sign(np.diag(signs))).T, dtype=np.float32)


def widths(adapter: AdapterState) -> dict[str, int]:
    """Layer → width of its input."""
    suffix = ".lora_A.weight"
    return {n.removesuffix(suffix): a.shape[1] for n, a in adapter.tensors.items() if n.endswith(suffix)}
