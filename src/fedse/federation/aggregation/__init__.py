"""Aggregators: how the server combines the clients' adapters.  Importing this package registers the built-in ones."""

from fedse.federation.aggregation.averaging import mean, server_step, weighted_mean
from fedse.federation.aggregation.registry import (
    Aggregator,
    Combine,
    aggregator,
    aggregator_names,
    get_aggregator,
)

__all__ = [
    "Aggregator",
    "Combine",
    "aggregator",
    "aggregator_names",
    "get_aggregator",
    "mean",
    "server_step",
    "weighted_mean",
]
