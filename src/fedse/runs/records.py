"""The record of a run's rounds, ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedse.errors import RunError
from fedse.runs.layout import ServerFolder
from fedse.storage import atomic_write, storage_errors
from fedse.types import RoundRecord, SuccessRate

SCHEMA_VERSION = 1


def append_record(folder: ServerFolder, record: RoundRecord) -> None:
    """Add a round to ``metrics.jsonl``, which is replaced as a whole.

    Raises:
        StorageError: if it cannot be written; the earlier rounds are then still there.
    """
    records = [*read_records(folder), record]
    lines = [json.dumps({"schema_version": SCHEMA_VERSION, **asdict(entry)}) + "\n" for entry in records]
    atomic_write(folder.metrics, "".join(lines))


def read_records(folder: ServerFolder) -> tuple[RoundRecord, ...]:
    """The completed rounds of a run, from round 0; empty if none is complete.

    Raises:
        RunError: if the file is damaged, or was written by a newer fedse.
        StorageError: if it cannot be read.
    """
    if not folder.metrics.exists():
        return ()
    with storage_errors("read", folder.metrics):
        content = folder.metrics.read_bytes()
    try:
        records = tuple(_record(json.loads(line)) for line in content.decode().splitlines())
    except (KeyError, TypeError, ValueError) as cause:
        raise _damaged(folder.metrics, f"{type(cause).__name__}: {cause}") from cause
    if [record.round for record in records] != list(range(len(records))):
        raise _damaged(folder.metrics, "its rounds are not 0, 1, 2, …")
    return records


def _record(data: Mapping[str, Any]) -> RoundRecord:
    if data["schema_version"] > SCHEMA_VERSION:
        raise ValueError(f"schema {data['schema_version']} is of a newer fedse")
    return RoundRecord(
        round=data["round"],
        clients=data["clients"],
        evaluation=_rates(data["evaluation"]),
        adapter=data["adapter"],
        seconds=data["seconds"],
        adapters=data["adapters"],
        transfer={name: _rates(rates) for name, rates in data["transfer"].items()},
        scalars=data["scalars"],
    )


def _rates(data: Mapping[str, Any]) -> dict[str, SuccessRate]:
    return {name: SuccessRate(**rate) for name, rate in data.items()}


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged: {why}", "restore it from a copy, or start again in another folder")
