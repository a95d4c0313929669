"""What sites exchange, for reports: conflict of the updates and bytes, round by round.

Both are computed from the adapters in a run folder.  A run that is packed goes without them, so what was computed is
written down in it, and read from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedse.adapters.algebra import FACTORS, aggregation_error, conflict, factor_gram
from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.errors import StorageError, boundary
from fedse.results.combined import combined_sites, starting_round, update_weights
from fedse.runs.layout import RunLayout
from fedse.storage import read_json, storage_errors, write_json
from fedse.types import RoundRecord

Conflicts = Mapping[int, Mapping[str, float]]
Traffic = Mapping[tuple[str, int, str], int]

_SCHEMA = 1
_WAYS = ("bytes_up", "bytes_down")


def round_conflicts(layout: RunLayout, config: RunConfig, records: Sequence[RoundRecord]) -> Conflicts:
    """Round → measure → value, for rounds in which several federated sites sent adapters.

    Measures are ``cosine_A`` and ``cosine_B`` (mean over the pairs of sites), ``dilution`` (κ, of both factors), and
    ``error`` (of averaging factors instead of products, in % of the change); see :mod:`fedse.adapters.algebra`.

    Args:
        layout: of the run, which may be under way.
        config: its configuration.
        records: its completed rounds.

    Raises:
        AdapterError: if an adapter is damaged.
        StorageError: if a file cannot be read, or is damaged.
    """
    if layout.exchange.is_file():
        return _read(layout.exchange)[0]
    if config.method.sharing != "federated":
        return {}
    found = {}
    for record in records[1:]:
        sites = combined_sites(record)
        start = starting_round(config, record.round)
        places = [layout.global_adapter(start), *(layout.update(record.round, site) for site in sites)]
        if len(sites) > 1 and all(place.is_dir() for place in places):
            weights = update_weights(config, record, sites)
            found[record.round] = _measured(layout, record.round, start, sites, weights)
    return found


def traffic(layout: RunLayout, config: RunConfig, records: Sequence[RoundRecord]) -> Traffic:
    """(site, round, ``bytes_up`` or ``bytes_down``) → bytes of the adapter folder that went that way.

    Only federated sites exchange adapters: isolated ones exchange nothing, and pooled ones hand over their experience.
    Folders that are gone are left out.

    Args:
        layout: of the run, which may be under way.
        config: its configuration.
        records: its completed rounds.

    Raises:
        StorageError: if a file cannot be read, or is damaged.
    """
    if layout.exchange.is_file():
        return _read(layout.exchange)[1]
    found: dict[tuple[str, int, str], int] = {}
    if config.method.sharing != "federated":
        return found
    for record in records[1:]:
        for client in config.clients:
            folders = (layout.update(record.round, client.name), layout.global_adapter(record.round - 1))
            for way, folder in zip(_WAYS, folders, strict=True):
                if folder.is_dir():
                    found[client.name, record.round, way] = _size(folder)
    return found


def write_exchange(path: Path, conflicts: Conflicts, bytes_sent: Traffic) -> None:
    """Write down what was computed from adapters that a copy of the run goes without.

    Raises:
        StorageError: if the file cannot be written.
    """
    content = {
        "schema_version": _SCHEMA,
        "conflicts": [{"round": round, **values} for round, values in conflicts.items()],
        "traffic": [
            {"site": site, "round": round, "way": way, "bytes": size} for (site, round, way), size in bytes_sent.items()
        ],
    }
    write_json(path, content)


def _read(path: Path) -> tuple[Conflicts, Traffic]:
    content = read_json(path, schema_version=_SCHEMA)
    with boundary(StorageError, f"{path} is damaged", "restore it from a copy of the folder"):
        conflicts = {
            int(row["round"]): {name: float(value) for name, value in row.items() if name != "round"}
            for row in content["conflicts"]
        }
        return conflicts, {_way(row): int(row["bytes"]) for row in content["traffic"]}


def _way(row: Mapping[str, Any]) -> tuple[str, int, str]:
    return str(row["site"]), int(row["round"]), str(row["way"])


@lru_cache(maxsize=4096)
def _measured(
    layout: RunLayout, round: int, start: int, sites: tuple[str, ...], weights: tuple[float, ...]
) -> Mapping[str, float]:
    """The measures of one round; a complete round stays as it is, and a page that follows a run asks again and again.

    Args:
        layout: of the run.
        round: from 1.
        start: the round whose global adapter the updates began from.
        sites: those whose updates were combined.
        weights: of their updates.
    """
    before = load_adapter(layout.global_adapter(start))
    updates = [load_adapter(layout.update(round, site), expect=before.meta) for site in sites]
    grams = {factor: factor_gram(before, updates, factor) for factor in FACTORS}
    values = {f"cosine_{factor}": conflict(gram).mean_cosine for factor, gram in grams.items()}
    values["dilution"] = conflict(grams["A"] + grams["B"]).dilution
    values["error"] = 100 * aggregation_error(before, updates, weights).of_update
    return {measure: value for measure, value in values.items() if math.isfinite(value)}


def _size(folder: Path) -> int:
    with storage_errors("read", folder):
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
