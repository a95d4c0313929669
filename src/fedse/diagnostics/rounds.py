"""The diagnostics of every round of a run, from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedse.adapters.algebra import (
    FACTORS,
    AggregationError,
    Conflict,
    Factor,
    aggregation_error,
    conflict,
    factor_gram,
    gradient_heterogeneity,
    product_gram,
    sign_agreement,
)
from fedse.config import RunConfig
from fedse.diagnostics.experience import Buffer, LengthBin, buffer_at, rewards_by_length
from fedse.learning.schedule import learning_rate_factor, round_factor
from fedse.results.exchange import DOWN, UP, Traffic, combined_updates, traffic
from fedse.results.method import update_weights
from fedse.results.reading import Run, run_at
from fedse.types import RoundRecord, Trajectory


@dataclass(frozen=True)
class RoundDiagnostics:
    """One round.

    Attributes:
        round: from 1.
        buffers: client → its experience at the end of the round.
        lengths: client → rewards of its explored episodes by length; empty if it did not explore.
        clients: those whose updates were combined, in the order of every matrix; none where sites exchange no adapters,
            and then there is nothing about updates and traffic below.
        conflicts: "A" and "B" (deltas of the factors), "AB" (both together) and "BA" (changes of the products).
        sign_agreement: factor → agreement of the signs of its deltas.
        gradient_heterogeneity: the estimate of ζ².
        error: of averaging factors instead of products, with the run's weights; NaN where an aggregator of another
            package combined them.
        bytes_up, bytes_down: client → bytes that it sent, and was sent (:func:`fedse.results.exchange.traffic`).
    """

    round: int
    buffers: Mapping[str, Buffer]
    lengths: Mapping[str, Sequence[LengthBin]]
    clients: tuple[str, ...] = ()
    conflicts: Mapping[str, Conflict] = field(default_factory=dict)
    sign_agreement: Mapping[Factor, float] = field(default_factory=dict)
    gradient_heterogeneity: float = math.nan
    error: AggregationError = field(default_factory=lambda: AggregationError(math.nan, math.nan))
    bytes_up: Mapping[str, int] = field(default_factory=dict)
    bytes_down: Mapping[str, int] = field(default_factory=dict)


def diagnose(folder: Path) -> list[RoundDiagnostics]:
    """The diagnostics of all completed rounds of a run, which may still be under way.

    Raises:
        RunError: if the folder is no run or a packed one, a site's folder is not here, or a file is damaged.
        AdapterError: if an adapter is missing or damaged.
        StoreError, StorageError: if a file cannot be read.
    """
    run = run_at(folder)
    run.check_whole()
    stores = {client.name: run.experience(client.name) for client in run.config.clients} if run.rounds_done else {}
    sizes = traffic(run)
    return [_round(run, record, stores, sizes) for record in run.records[1:]]


def _round(
    run: Run, record: RoundRecord, stores: Mapping[str, Sequence[Trajectory]], sizes: Traffic
) -> RoundDiagnostics:
    number = record.round
    buffers = {name: buffer_at(stored, number) for name, stored in stores.items()}
    explored = {name: run.has_episodes("explored", name, number) for name in stores}
    lengths = {
        name: rewards_by_length(run.episodes("explored", name, number)) if there else []
        for name, there in explored.items()
    }
    alone = RoundDiagnostics(number, buffers, lengths)
    combined = combined_updates(run, record)
    if combined is None:
        return alone
    before, sent = combined
    clients, updates = tuple(sent), [*sent.values()]
    grams = {factor: factor_gram(before, updates, factor) for factor in FACTORS}
    parts = [*grams.items(), ("AB", grams["A"] + grams["B"]), ("BA", product_gram(before, updates))]
    ways = {
        way: {site: size for (site, at, its_way), size in sizes.items() if (at, its_way) == (number, way)}
        for way in (UP, DOWN)
    }
    return replace(
        alone,
        clients=clients,
        conflicts={part: conflict(gram) for part, gram in parts},
        sign_agreement={factor: sign_agreement(before, updates, factor) for factor in FACTORS},
        gradient_heterogeneity=gradient_heterogeneity(grams, _rate_sums(run.config, record, clients)),
        error=aggregation_error(before, updates, update_weights(run.config, record, clients)),
        bytes_up=ways[UP],
        bytes_down=ways[DOWN],
    )


def _rate_sums(config: RunConfig, record: RoundRecord, clients: Sequence[str]) -> dict[Factor, Sequence[float]]:
    """What each client's steps in this round add up to, as the local update makes them."""
    settings = config.training
    peak = settings.learning_rate * round_factor(record.round, config.rounds, settings.round_schedule)
    sums = []
    for name in clients:
        steps = record.clients[name]["train"]["steps"]
        factors = (learning_rate_factor(step, steps, settings.schedule, settings.warmup) for step in range(steps))
        sums.append(peak * sum(factors))
    return {"A": sums, "B": [settings.b_ratio * total for total in sums]}
