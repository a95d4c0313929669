"""What sites exchange in a run, round by round: conflict of the updates, and bytes.

Both are computed from the adapters in the run folder.  A packed run goes without these, so what was computed is written
down in it (``exchange.json``), and read from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedse.adapters.algebra import FACTORS, aggregation_error, conflict, factor_gram
from fedse.adapters.checks import shape_problems
from fedse.adapters.state import AdapterState
from fedse.errors import StorageError, boundary
from fedse.results.method import combined_sites, starting_round, update_weights
from fedse.storage import read_json, write_json
from fedse.types import RoundRecord

if TYPE_CHECKING:
    from fedse.results.reading import Run

#: Round → measure → value.
Conflicts = Mapping[int, Mapping[str, float]]
#: (site, round, ``bytes_up`` or ``bytes_down``) → bytes of the message that went that way.
Traffic = Mapping[tuple[str, int, str], int]
UP, DOWN = "bytes_up", "bytes_down"

_SCHEMA = 2
#: Complete rounds stay as they are, and a page that follows a run asks for them again and again.
_conflicts_of_rounds: dict[tuple[Any, ...], Mapping[str, float]] = {}


def round_conflicts(run: Run) -> Conflicts:
    """Round → measure → value, for rounds in which several sites sent adapters to be combined.

    Measures are ``cosine_A`` and ``cosine_B`` (mean over the pairs of sites), ``dilution`` (κ, of both factors), and
    ``error`` (of averaging factors instead of products, in % of the change); see :mod:`fedse.adapters.algebra`.

    Raises:
        AdapterError, StorageError: if a file is damaged or cannot be read.
    """
    if run.exchange_file.is_file():
        return _read(run.exchange_file)[0]
    return {
        record.round: _measured(run, record, *combined)
        for record in run.records[1:]
        if (combined := combined_updates(run, record)) and len(combined[1]) > 1
    }


def combined_updates(run: Run, record: RoundRecord) -> tuple[AdapterState, dict[str, AdapterState]] | None:
    """The adapter that a round's updates began from, and site → its update; None where there are none to compare.

    That is where every site goes on by itself, where sites keep parts of their adapters to themselves or have other
    ranks, and where the messages are gone.

    Raises:
        RunError, AdapterError: if a file is damaged.
    """
    sites, start = combined_sites(record), starting_round(run.config, record.round)
    if not (sites and run.has_round(start) and all(run.has_update(record.round, site) for site in sites)):
        return None
    before = run.adapter(start)
    updates = {site: run.update(record.round, site) for site in sites}
    return None if any(shape_problems(update, before) for update in updates.values()) else (before, updates)


def traffic(run: Run) -> Traffic:
    """The bytes of a round's messages that have adapters, as they are encoded on their way (:mod:`fedse.messages`).

    ``bytes_up`` is what a site sent: the reply with its update.  ``bytes_down`` is what it was sent: the instructions
    to train and to evaluate, whichever of them brings the new adapter.  Rounds whose
    messages are gone are left out, and those after which every site goes on by itself, for which it needs no server.

    Raises:
        RunError, StorageError: if a file is damaged or cannot be read.
    """
    if run.exchange_file.is_file():
        return _read(run.exchange_file)[1]
    return {
        (site, record.round, way): size
        for record in run.records[1:]
        for site, sizes in (run.traffic(record.round) if record.adapter else {}).items()
        for way, size in zip((DOWN, UP), sizes, strict=True)
    }


def write_exchange(path: Path, conflicts: Conflicts, sizes: Traffic) -> None:
    """Write down what was computed from adapters that a copy of the run goes without.

    Raises:
        StorageError: if the file cannot be written.
    """
    rounds = [{"round": number, **values} for number, values in conflicts.items()]
    ways = [{"site": site, "round": number, "way": way, "bytes": size} for (site, number, way), size in sizes.items()]
    write_json(path, {"schema_version": _SCHEMA, "conflicts": rounds, "traffic": ways})


def _read(path: Path) -> tuple[Conflicts, Traffic]:
    content = read_json(path, schema_version=_SCHEMA)
    with boundary(StorageError, f"{path} is damaged", "restore it from a copy of the folder"):
        conflicts = {
            int(row["round"]): {name: float(value) for name, value in row.items() if name != "round"}
            for row in content["conflicts"]
        }
        rows = content["traffic"] if content["schema_version"] > 1 else []  # these were sizes of folders, not messages
        return conflicts, {(str(row["site"]), int(row["round"]), str(row["way"])): int(row["bytes"]) for row in rows}


def _measured(
    run: Run, record: RoundRecord, before: AdapterState, updates: Mapping[str, AdapterState]
) -> Mapping[str, float]:
    """The measures of one round: of the updates of its sites, which began from an adapter."""
    weights = update_weights(run.config, record, tuple(updates))
    key = (run.folder, record.round, before.digest, *updates, weights)
    if key not in _conflicts_of_rounds:
        sent = [*updates.values()]
        grams = {factor: factor_gram(before, sent, factor) for factor in FACTORS}
        values = {f"cosine_{factor}": conflict(gram).mean_cosine for factor, gram in grams.items()}
        values["dilution"] = conflict(grams["A"] + grams["B"]).dilution
        values["error"] = 100 * aggregation_error(before, sent, weights).of_update
        _conflicts_of_rounds[key] = {measure: value for measure, value in values.items() if math.isfinite(value)}
    return _conflicts_of_rounds[key]
