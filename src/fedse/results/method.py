"""What readers ask of a run's method: which adapters there are, and how updates were combined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedse.config import RunConfig
from fedse.federation.gathering import OK
from fedse.federation.server import strategy_of
from fedse.federation.strategies import strategy_class
from fedse.types import RoundRecord


def has_own_adapters(config: RunConfig) -> bool:
    """Each site ends with an adapter of its own; else one global adapter serves all."""
    return strategy_class(config.method.strategy).personal and config.rounds > 0


def combined_sites(record: RoundRecord) -> tuple[str, ...]:
    """The sites whose updates were combined, sorted; none if every site went on from its own."""
    if not record.adapter:
        return ()
    return tuple(site for site, metrics in sorted(record.clients.items()) if metrics.get("outcome") == OK)


def starting_round(config: RunConfig, number: int) -> int:
    """The round whose global adapter a round's updates began from: the initial one if they restart, else the last."""
    return strategy_of(config).begins_at(number)


def update_weights(config: RunConfig, record: RoundRecord, sites: Sequence[str]) -> tuple[float, ...]:
    """The weights of the sites' updates, not normalized; NaN for a strategy that is no mean of the updates."""
    weights = strategy_of(config).weights({site: record.scalars.get(site, {}) for site in sites})
    return tuple(math.nan if weights is None else weights[site] for site in sites)


def scalar_names(config: RunConfig) -> tuple[str, ...]:
    """The numbers that the strategy asks for beside the adapter, sorted."""
    return tuple(sorted(strategy_class(config.method.strategy).needs))
