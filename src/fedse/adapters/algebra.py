"""How far clients drift apart in a round, and what averaging makes of it.

Client k returns θ_k from the broadcast adapter θ; its delta is D_k = θ_k − θ.  Cosines, dilution and heterogeneity are
functions of the Gram matrix G_jk = ⟨D_j, D_k⟩, which is summed tensor by tensor.  The products B·A are never formed:
⟨B₁A₁, B₂A₂⟩ = tr((B₁ᵀB₂)(A₂A₁ᵀ)) needs matrices of rank × rank only.  Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState

Factor = Literal["A", "B"]
FACTORS: tuple[Factor, ...] = ("A", "B")
Matrix = npt.NDArray[np.float64]

_SUFFIX = {"A": SUFFIX_A, "B": SUFFIX_B}


@dataclass(frozen=True, slots=True)
class Conflict:
    """Whether the clients' deltas agree, cancel out or oppose each other.

    Attributes:
        cosines: of each pair of clients, shape (K, K); NaN where a client did not move.
        dilution: κ = ‖mean D‖ / mean ‖D_k‖; 1 for equal deltas, 1/√K for orthogonal ones of one length.
        heterogeneity: h = mean ‖D_k − D̄‖² / ‖D̄‖²; 0 for equal deltas, K − 1 for orthogonal ones of one length.
    """

    cosines: Matrix
    dilution: float
    heterogeneity: float

    @property
    def pairs(self) -> Matrix:
        """The cosines of different clients that both moved."""
        upper = self.cosines[np.triu_indices(len(self.cosines), k=1)]
        return np.asarray(upper[~np.isnan(upper)])

    @property
    def mean_cosine(self) -> float:
        """Mean over pairs; NaN without any."""
        return float(self.pairs.mean()) if self.pairs.size else float("nan")

    @property
    def lowest_cosine(self) -> float:
        """The pair that agrees least; NaN without any."""
        return float(self.pairs.min()) if self.pairs.size else float("nan")

    @property
    def opposed(self) -> float:
        """Share of pairs with a negative cosine; NaN without any."""
        return float((self.pairs < 0).mean()) if self.pairs.size else float("nan")


@dataclass(frozen=True, slots=True)
class AggregationError:
    """The mean of the factors against the mean of the products, E = Σ p_k B_k A_k − B̄ Ā.

    Attributes:
        of_product: ‖E‖ / ‖Σ p_k B_k A_k‖, relative to the whole adapter.
        of_update: ‖E‖ / ‖Σ p_k B_k A_k − B A‖, relative to what the round changed.
    """

    of_product: float
    of_update: float


def factor_gram(before: AdapterState, updates: Sequence[AdapterState], factor: Factor) -> Matrix:
    """Inner products of the deltas of one factor over all layers, shape (K, K)."""
    gram = np.zeros((len(updates), len(updates)))
    for deltas in _deltas(before, updates, factor):
        gram += deltas @ deltas.T
    return gram


def product_gram(before: AdapterState, updates: Sequence[AdapterState]) -> Matrix:
    """Inner products of the changes of the weights, s (B_k A_k − B A), over all layers, shape (K, K).

    Unlike the factors' own deltas they do not depend on how a product is split into factors.
    """
    states = [before, *updates]
    full = np.zeros((len(states), len(states)))
    for layer in layers(before):
        factors = [factors_of(state, layer) for state in states]
        for j, (b_j, a_j) in enumerate(factors):
            for k, (b_k, a_k) in enumerate(factors[: j + 1]):
                full[j, k] = full[k, j] = full[j, k] + product_inner(b_j, a_j, b_k, a_k)
    start = full[0, 1:]
    gram = before.meta.scaling**2 * (full[1:, 1:] - start[:, None] - start[None, :] + full[0, 0])
    # Of a client that did not move the subtraction leaves a rounding error, with a direction of its own.
    moved = [
        any(not np.array_equal(found.tensors[name], before.tensors[name]) for name in before.tensors)
        for found in updates
    ]
    return np.asarray(np.where(np.outer(moved, moved), gram, 0.0))


def conflict(gram: Matrix) -> Conflict:
    """Cosines, dilution and heterogeneity of the deltas with this Gram matrix, shape (K, K).

    Each client counts the same, as in the paper's objective, also where the aggregator weighs them.
    A ratio whose denominator is zero, because nobody moved or all cancel out, is NaN or infinite.
    """
    squares = np.clip(np.diag(gram), 0.0, None)
    lengths = np.sqrt(squares)
    mean_square = max(0.0, float(gram.mean()))  # ‖D̄‖²
    spread = max(0.0, float(squares.mean()) - mean_square)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.clip(gram / np.outer(lengths, lengths), -1.0, 1.0)
        dilution = np.sqrt(np.float64(mean_square)) / lengths.mean()
        heterogeneity = np.float64(spread) / np.float64(mean_square)
    return Conflict(cosines, float(dilution), float(heterogeneity))


def sign_agreement(before: AdapterState, updates: Sequence[AdapterState], factor: Factor) -> float:
    """|Σ_k sign D_k| / K per coordinate, averaged over all coordinates of a factor.

    1 if all clients move every coordinate the same way; :func:`random_sign_agreement` if signs are coin tosses.
    """
    total, count = 0.0, 0
    for deltas in _deltas(before, updates, factor):
        total += float(np.abs(np.sign(deltas).sum(axis=0)).sum())
        count += deltas.shape[1]
    return total / (count * len(updates))


def random_sign_agreement(clients: int) -> float:
    """The agreement of independent random signs, E|Σ ±1| / K: 0.5 for two and three clients, 0.375 for five."""
    total = sum(math.comb(clients, ups) * abs(2 * ups - clients) for ups in range(clients + 1))
    return total / (clients * 2.0**clients)


def gradient_heterogeneity(grams: Mapping[Factor, Matrix], steps: Mapping[Factor, Sequence[float]]) -> float:
    """An estimate of the paper's ζ²(φ) = (1/K) Σ_k ‖∇f_k(φ) − ∇f(φ)‖² from what the clients returned.

    The gradient of client k is estimated by its delta over the sum of the learning rates that made it,
    g_k = −D_k / S_k.  That is its mean gradient where the local optimizer is SGD; with AdamW it is a preconditioned
    proxy, comparable between rounds and runs of one configuration and not with gradients.

    Args:
        grams: factor → inner products of its deltas, shape (K, K).
        steps: factor → the sum S_k of each client's learning rates for it.

    Returns:
        The estimate; NaN if a client made no step.
    """
    total = 0.0
    for factor, gram in grams.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / np.asarray(steps[factor], dtype=np.float64)
            gradients = gram * np.outer(inverse, inverse)
        total += float(np.diag(gradients).mean() - gradients.mean())
    return total


def aggregation_error(
    before: AdapterState, updates: Sequence[AdapterState], weights: Sequence[float]
) -> AggregationError:
    """How much is lost because factors are averaged, not products.

    E = Σ p_k (B_k − B̄)(A_k − Ā), a product of stacked factors of rank K·r, whose norm needs no large matrix.

    Args:
        before: the broadcast adapter.
        updates: what the clients returned.
        weights: p_k, ≥ 0, not all 0; normalised here.
    """
    shares = np.asarray(weights, dtype=np.float64) / float(np.sum(weights))
    error = whole = change = 0.0
    for layer in layers(before):
        factors = [factors_of(state, layer) for state in updates]
        b_mean = sum(share * b for share, (b, _) in zip(shares, factors, strict=True))
        a_mean = sum(share * a for share, (_, a) in zip(shares, factors, strict=True))
        error += _square(
            [share * (b - b_mean) for share, (b, _) in zip(shares, factors, strict=True)],
            [a - a_mean for _, a in factors],
        )
        left, right = [share * b for share, (b, _) in zip(shares, factors, strict=True)], [a for _, a in factors]
        whole += _square(left, right)
        b_before, a_before = factors_of(before, layer)
        change += _square([*left, -b_before], [*right, a_before])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.sqrt(np.float64(error) / np.array([whole, change]))
    return AggregationError(float(ratios[0]), float(ratios[1]))


def moved(adapter: AdapterState, origin: AdapterState, to: AdapterState) -> AdapterState:
    """An adapter's change since ``origin``, made from ``to`` instead; all three have the same names and shapes."""
    tensors = {name: to.tensors[name] + (array - origin.tensors[name]) for name, array in adapter.tensors.items()}
    return AdapterState(tensors, to.meta)


def layers(state: AdapterState) -> list[str]:
    """The adapted layers: the names of the tensors without their factor."""
    return [name.removesuffix(_SUFFIX["A"]) for name in state.tensors if name.endswith(_SUFFIX["A"])]


def factors_of(state: AdapterState, layer: str) -> tuple[Matrix, Matrix]:
    """The factors B (out, r) and A (r, in) of a layer in float64."""
    b, a = (state.tensors[layer + _SUFFIX[factor]].astype(np.float64) for factor in ("B", "A"))
    return b, a


def product_inner(b1: Matrix, a1: Matrix, b2: Matrix, a2: Matrix) -> float:
    """⟨B₁A₁, B₂A₂⟩ of factors (out, r) and (r, in), without forming the products."""
    return float(np.sum((b1.T @ b2) * (a1 @ a2.T)))


def _deltas(before: AdapterState, updates: Sequence[AdapterState], factor: Factor) -> Iterator[Matrix]:
    """The clients' deltas tensor by tensor, each of shape (K, parameters)."""
    for layer in layers(before):
        name = layer + _SUFFIX[factor]
        start = before.tensors[name].astype(np.float64)
        yield np.stack([(state.tensors[name] - start).ravel() for state in updates])


def _square(left: Sequence[Matrix], right: Sequence[Matrix]) -> float:
    """‖Σ_k left_k right_k‖² of factors (out, r) and (r, in)."""
    b, a = np.concatenate(left, axis=1), np.concatenate(right, axis=0)
    return max(0.0, product_inner(b, a, b, a))
