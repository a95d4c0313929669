"""Sums of low-rank products, and the adapter that is nearest to one.  No product is ever formed.

Σ_k B_k A_k = [B_1 … B_K] [A_1; …; A_K].  With the QR decompositions Q R of the left stack and P T of the transposed
right one, the SVD of the small matrix R Tᵀ gives that of the sum.  Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from fedse.adapters.algebra import Matrix, factors_of, layers
from fedse.adapters.parts import of_rank
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.types import FloatArray

#: Factors B, shape (out, r), and A, shape (r, in), of one product.
Term = tuple[Matrix, Matrix]


def product_svd(terms: Iterable[Term], rank: int | None = None) -> tuple[Matrix, Matrix, Matrix]:
    """The singular value decomposition of Σ_k B_k A_k.

    It costs O((out + in) R² + R³), with R = Σ_k r_k.

    Args:
        terms: factors B_k, shape (out, r_k), and A_k, shape (r_k, in); at least one.
        rank: so many singular vectors are wanted; default: all n = min(out, in, R).

    Returns:
        U, shape (out, rank); all singular values, descending, shape (n,); Vᵀ, shape (rank, in).  The largest entry of
        every row of Vᵀ is positive, so that equal sums have equal factors.
    """
    left, right = zip(*terms, strict=True)
    to_left, r_left = _qr(np.concatenate(left, axis=1, dtype=np.float64))
    to_right, r_right = _qr(np.concatenate(right, axis=0, dtype=np.float64).T)
    u, values, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    columns, rows = to_left(u[:, :rank]), to_right(vt[:rank].T).T
    signs = np.where(np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1) < 0, -1.0, 1.0)
    return columns * signs.T, values, rows * signs


def _qr(stack: Matrix) -> tuple[Callable[[Matrix], Matrix], Matrix]:
    """How to multiply by Q, which is never formed, and R: most of the time would go into a Q of R columns."""
    from scipy.linalg.lapack import dormqr  # a third of a second to import

    reflectors, scales = np.linalg.qr(stack, mode="raw")
    reflectors = reflectors.T
    count = len(scales)

    def times(small: Matrix) -> Matrix:
        padded = np.zeros((len(stack), small.shape[1]), order="F")
        padded[:count] = small
        space = int(dormqr("L", "N", reflectors[:, :count], scales, padded, -1)[1][0])
        return np.asarray(dormqr("L", "N", reflectors[:, :count], scales, padded, space)[0])

    return times, np.triu(reflectors[:count])


def products(weighted: Sequence[tuple[float, AdapterState]]) -> dict[str, Iterator[Term]]:
    """Layer → the products w_k B_k A_k of weighted adapters, each read into float64 when it is its turn.

    Args:
        weighted: weights and adapters with the same layers; at least one.
    """

    def of(layer: str) -> Iterator[Term]:
        for weight, adapter in weighted:
            factor_b, factor_a = factors_of(adapter, layer)
            yield weight * factor_b, factor_a

    return {layer: of(layer) for layer in layers(weighted[0][1])}


def nearest(terms: Mapping[str, Iterable[Term]], rank: int, like: AdapterMeta) -> tuple[AdapterState, float]:
    """The adapter of a rank that is nearest to sums of products, by truncated SVD (Eckart and Young 1936).

    Its components are ordered by their singular values, so that its first r are the nearest adapter of rank r.  The
    rows of A have length 1, about that of a fresh A; B has the magnitude.

    Args:
        terms: layer → the products, without the scaling; see :func:`product_svd`.
        rank: of the adapter; where a layer allows fewer components, the others are zero.
        like: what the adapter is for; it keeps the scaling.

    Returns:
        The adapter, and how much was cut off: the Frobenius norm of the difference over that of the sums, all layers
        together.
    """
    tensors: dict[str, FloatArray] = {}
    cut = whole = 0.0
    for layer, sums in terms.items():
        u, values, vt = product_svd(sums, rank)
        squares = values**2
        whole, cut = whole + float(squares.sum()), cut + float(squares[rank:].sum())
        missing = max(0, rank - len(values))
        tensors[layer + SUFFIX_A] = np.pad(vt, ((0, missing), (0, 0))).astype(np.float32)
        tensors[layer + SUFFIX_B] = np.pad(u * values[:rank], ((0, 0), (0, missing))).astype(np.float32)
    return AdapterState(tensors, of_rank(like, rank)), math.sqrt(cut / whole) if whole else 0.0
