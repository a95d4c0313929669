"""What the server of a federated run combined in a round, as the run folder tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedse.config import RunConfig
from fedse.federation.server import OK
from fedse.types import RoundRecord


def combined_sites(record: RoundRecord) -> tuple[str, ...]:
    """Those whose updates were combined, sorted."""
    return tuple(site for site, metrics in sorted(record.clients.items()) if metrics.get("outcome") == OK)


def starting_round(config: RunConfig, round: int) -> int:
    """The round whose global adapter the updates began from: the initial one's if they restart, else the one before."""
    return 0 if config.method.restart else round - 1


def update_weights(config: RunConfig, record: RoundRecord, sites: Sequence[str]) -> tuple[float, ...]:
    """Weights of the sites' updates, not normalized, as the run's aggregator takes them.

    NaN for an aggregator of another package, which need not be a weighted mean.
    """
    if config.method.aggregator == "mean":
        return (1.0,) * len(sites)
    if config.method.aggregator != "weighted_mean":
        return (math.nan,) * len(sites)
    weights = tuple(float(record.clients[site]["train"]["examples"]) for site in sites)
    return weights if any(weights) else (1.0,) * len(sites)  # then it takes the plain mean
