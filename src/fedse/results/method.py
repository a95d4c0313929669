"""What readers ask of a run's method: which adapters there are, what is exchanged, and how updates were combined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedse.config import RunConfig
from fedse.federation.aggregation import aggregator_names, get_aggregator
from fedse.federation.server import OK
from fedse.types import RoundRecord


def has_own_adapters(config: RunConfig) -> bool:
    """Each site ends with an adapter of its own; else one global adapter serves all."""
    return config.method.sharing == "isolated" and config.rounds > 0


def exchanges_adapters(config: RunConfig) -> bool:
    """Sites send adapters to the server, and are sent one."""
    return config.method.sharing == "federated"


def pools_experience(config: RunConfig) -> bool:
    """One adapter is trained on the experience of all sites, which leaves them for that."""
    return config.method.sharing == "pooled"


def combined_sites(record: RoundRecord) -> tuple[str, ...]:
    """The sites whose updates were combined, sorted."""
    return tuple(site for site, metrics in sorted(record.clients.items()) if metrics.get("outcome") == OK)


def starting_round(config: RunConfig, number: int) -> int:
    """The round whose global adapter a round's updates began from: the initial one if they restart, else the last."""
    return 0 if config.method.restart else number - 1


def update_weights(config: RunConfig, record: RoundRecord, sites: Sequence[str]) -> tuple[float, ...]:
    """The weights of the sites' updates, not normalized, as the run's aggregator takes them.

    NaN for an aggregator of another package, which need not be a weighted mean.
    """
    if config.method.aggregator == "mean":
        return (1.0,) * len(sites)
    if config.method.aggregator != "weighted_mean":
        return (math.nan,) * len(sites)
    weights = tuple(float(record.clients[site]["train"]["examples"]) for site in sites)
    return weights if any(weights) else (1.0,) * len(sites)  # then it takes the plain mean


def scalar_names(config: RunConfig) -> tuple[str, ...]:
    """The numbers that a site sends beside its adapter, sorted; empty if the aggregator's package is not imported."""
    known = exchanges_adapters(config) and config.method.aggregator in aggregator_names()
    return tuple(sorted(get_aggregator(config.method.aggregator).needs)) if known else ()


def sent_scalars(config: RunConfig, record: RoundRecord, site: str) -> Mapping[str, float]:
    """The numbers that a site sent beside its adapter in a round, as far as the record has them."""
    trained = record.clients.get(site, {}).get("train", {})
    return {name: float(trained[name]) for name in scalar_names(config) if name in trained}


def sharing_in_words(config: RunConfig) -> str:
    """What the sites share, and what becomes of it."""
    method = config.method
    return {
        "federated": f"adapters; {method.aggregator}, server step {method.server_lr:g}",
        "pooled": "experience; one adapter is trained on that of all sites",
        "isolated": "nothing; each site goes on from its own adapter",
    }[method.sharing]
