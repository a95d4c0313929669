"""The diagnostics of every round of a run, from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from fedse.adapters.files import load_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.diagnostics.experience import Buffer, LengthBin, buffer_at, rewards_by_length
from fedse.experience import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.aggregation import get_aggregator
from fedse.learning.schedule import learning_rate_factor, round_factor
from fedse.messages.codec import encode_update
from fedse.messages.update import ClientUpdate
from fedse.results.combined import combined_sites, starting_round, update_weights
from fedse.runs.folder import check_whole, read_config, read_records
from fedse.runs.layout import RunLayout
from fedse.types import RoundRecord, Trajectory


@dataclass(frozen=True)
class RoundDiagnostics:
    """One round.

    Attributes:
        round: from 1.
        clients: those whose updates were combined, in the order of every matrix; none where sites exchange no adapters,
            and then there is nothing about updates and traffic below.
        conflicts: "A" and "B" (deltas of the factors), "AB" (both together) and "BA" (changes of the products).
        sign_agreement: factor → agreement of the signs of its deltas.
        gradient_heterogeneity: the estimate of ζ².
        error: of averaging factors instead of products, with the run's weights; NaN where an aggregator of another
            package combined them.
        buffers: client → its experience at the end of the round.
        lengths: client → rewards of its explored episodes by length; empty if it did not explore.
        bytes_up: client → size of its encoded update.
        bytes_down: size of the broadcast adapter's tensors, which every client receives.
    """

    round: int
    clients: tuple[str, ...]
    conflicts: Mapping[str, Conflict]
    sign_agreement: Mapping[Factor, float]
    gradient_heterogeneity: float
    error: AggregationError
    buffers: Mapping[str, Buffer]
    lengths: Mapping[str, Sequence[LengthBin]]
    bytes_up: Mapping[str, int]
    bytes_down: int


def diagnose(folder: Path) -> list[RoundDiagnostics]:
    """The diagnostics of all completed rounds of a run, which may still be under way.

    Raises:
        RunError: if the folder is no run or a packed one, or a file is damaged.
        AdapterError: if an adapter is missing or damaged.
        UnknownNameError: if the run's aggregator is of a package that is not imported.
        StoreError, StorageError: if a file cannot be read.
    """
    layout = RunLayout(folder)
    config, records = read_config(layout), read_records(layout)
    check_whole(layout)
    stores = {client.name: _stored(layout, client.name) for client in config.clients} if records[1:] else {}
    return [_round(layout, config, record, stores) for record in records[1:]]


def _round(
    layout: RunLayout, config: RunConfig, record: RoundRecord, stores: Mapping[str, Sequence[Trajectory]]
) -> RoundDiagnostics:
    clients = combined_sites(record)
    if config.method.sharing != "federated":
        return _without_updates(layout, record.round, stores)
    before = load_adapter(layout.global_adapter(starting_round(config, record.round)))
    updates = [load_adapter(layout.update(record.round, name), expect=before.meta) for name in clients]
    grams = {factor: factor_gram(before, updates, factor) for factor in FACTORS}
    return RoundDiagnostics(
        round=record.round,
        clients=clients,
        conflicts={
            **{factor: conflict(gram) for factor, gram in grams.items()},
            "AB": conflict(grams["A"] + grams["B"]),
            "BA": conflict(product_gram(before, updates)),
        },
        sign_agreement={factor: sign_agreement(before, updates, factor) for factor in FACTORS},
        gradient_heterogeneity=gradient_heterogeneity(grams, _learning_rate_sums(config, record, clients)),
        error=aggregation_error(before, updates, update_weights(config, record, clients)),
        buffers={name: buffer_at(stored, record.round) for name, stored in stores.items()},
        lengths={name: _lengths(layout, name, record.round) for name in stores},
        bytes_up={name: _encoded(config, record, name, update) for name, update in zip(clients, updates, strict=True)},
        bytes_down=before.nbytes,
    )


def _without_updates(layout: RunLayout, round: int, stores: Mapping[str, Sequence[Trajectory]]) -> RoundDiagnostics:
    return RoundDiagnostics(
        round=round,
        clients=(),
        conflicts={},
        sign_agreement={},
        gradient_heterogeneity=math.nan,
        error=AggregationError(math.nan, math.nan),
        buffers={name: buffer_at(stored, round) for name, stored in stores.items()},
        lengths={name: _lengths(layout, name, round) for name in stores},
        bytes_up={},
        bytes_down=0,
    )


def _stored(layout: RunLayout, client: str) -> list[Trajectory]:
    with ExperienceStore(layout.experience(client), readonly=True) as store:
        return store.trajectories()


def _lengths(layout: RunLayout, client: str, round: int) -> list[LengthBin]:
    path = layout.trajectories(client, round)
    return rewards_by_length(read_trajectories(path)) if path.is_file() else []


def _learning_rate_sums(
    config: RunConfig, record: RoundRecord, clients: Sequence[str]
) -> dict[Factor, Sequence[float]]:
    """What each client's steps in this round add up to, as the local update makes them."""
    settings = config.training
    peak = settings.learning_rate * round_factor(record.round, config.rounds, settings.round_schedule)
    sums = []
    for name in clients:
        steps = record.clients[name]["train"]["steps"]
        factors = (learning_rate_factor(step, steps, settings.schedule, settings.warmup) for step in range(steps))
        sums.append(peak * sum(factors))
    return {"A": sums, "B": [settings.b_ratio * total for total in sums]}


def _encoded(config: RunConfig, record: RoundRecord, client: str, adapter: AdapterState) -> int:
    """Bytes of the update as it is sent, with the scalars that the run's aggregator asks for."""
    examples = float(record.clients[client]["train"]["examples"])
    scalars = {"examples": examples} if "examples" in get_aggregator(config.method.aggregator).needs else {}
    return len(encode_update(ClientUpdate(client, record.round, adapter, scalars)))
