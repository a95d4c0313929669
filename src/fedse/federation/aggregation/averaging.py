"""Element-wise averages of the A and the B factors, and the server's step.

The mean of the factors is not the factors of the mean: with drifts A_k − Ā and B_k − B̄ of the clients,
Σ p_k B_k A_k − B̄ Ā = Σ p_k (B_k − B̄)(A_k − Ā), which is of second order in the drift.  Fed-SE accepts this error.

Sums are formed in float64 and rounded once to float32, so that the mean of equal adapters is that adapter, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError
from fedse.federation.aggregation.registry import aggregator
from fedse.messages.update import ClientUpdate
from fedse.types import FloatArray


@aggregator("mean", citation="Fed-SE: Chen et al. 2025, arXiv 2512.08870")
def mean(_global: AdapterState, updates: Sequence[ClientUpdate]) -> AdapterState:
    """Fed-SE: every site counts the same, (1/K) Σ_k φ_k, whatever its number of successes."""
    return _average([(update, 1.0) for update in updates])


@aggregator("weighted_mean", needs=("examples",), citation="FedIT: Zhang et al. 2023, arXiv 2305.05644")
def weighted_mean(global_: AdapterState, updates: Sequence[ClientUpdate]) -> AdapterState:
    """FedIT: sites weigh as their numbers of training trajectories n_k, Σ_k n_k φ_k / Σ_k n_k.

    If no site has any, they count the same: each sends back the adapter that its update began from.
    """
    largest = max(update.scalars["examples"] for update in updates)
    if largest == 0:
        return mean(global_, updates)
    # Divided by the largest, equal weights are exactly 1 and huge ones cannot overflow.
    return _average([(update, update.scalars["examples"] / largest) for update in updates])


def server_step(global_: AdapterState, combined: AdapterState, server_lr: float) -> AdapterState:
    """The next global adapter, φ + server_lr · (φ̄ − φ); a step of 1 gives exactly ``combined``.

    The mean delta seen as a pseudo-gradient is from Reddi et al. 2021, "Adaptive Federated Optimization",
    arXiv 2003.00295; a step above 1 counters the dilution of early updates by averaging.

    Args:
        global_: the adapter broadcast this round.
        combined: the aggregator's result, with the same names and shapes.
        server_lr: the step, > 0.

    Raises:
        AdapterError: if the step leaves the range of float32.
    """
    if server_lr == 1.0:
        return combined
    stepped: dict[str, FloatArray] = {}
    for name, start in global_.tensors.items():
        exact = start.astype(np.float64)
        exact += server_lr * (combined.tensors[name].astype(np.float64) - exact)
        stepped[name] = _to_float32(name, exact)
    return AdapterState(stepped, combined.meta)


def _average(weighted: Sequence[tuple[ClientUpdate, float]]) -> AdapterState:
    """Σ w_k φ_k / Σ w_k over updates that agree in names and shapes, summed in the order of the clients' names."""
    ordered = sorted(weighted, key=lambda pair: pair[0].client)
    total = sum(weight for _, weight in ordered)
    first = ordered[0][0].adapter
    averaged: dict[str, FloatArray] = {}
    for name in first.tensors:
        # Begun with the first term rather than with zero, which would turn −0 into +0.
        terms = (weight * update.adapter.tensors[name].astype(np.float64) for update, weight in ordered)
        accumulated = next(terms)
        for term in terms:
            accumulated += term
        averaged[name] = _to_float32(name, accumulated / total)
    return AdapterState(averaged, first.meta)


def _to_float32(name: str, exact: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> FloatArray:
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise AdapterError(f"{name} leaves the range of float32 in aggregation", "lower method.server_lr")
    return rounded
