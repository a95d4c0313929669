"""A run's folder: who may work in it, which configuration it belongs to, and the record of its rounds."""

from __future__ import annotations

import fcntl
import json
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.errors import RunError, VersionWarning
from fedse.provenance import source_digest
from fedse.runs.identity import run_differences
from fedse.runs.layout import RunLayout
from fedse.settings import dump_config, load_config
from fedse.storage import atomic_write, read_json, recover, storage_errors, write_json
from fedse.types import RoundRecord, SuccessRate

SCHEMA_VERSION = 1
#: How long a lock is tried for: a reader that asks who holds it shares it for an instant.
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 0.5, 0.01
_PACKAGES = ("fedse", "numpy", "peft", "safetensors", "torch", "transformers")


@contextmanager
def open_run(config: RunConfig, folder: Path, *, resume: bool) -> Iterator[RunLayout]:
    """Open a run folder for work, alone.  A run begins with its configuration and the versions in use.

    A run that goes on may have another name and another number of workers, on which no result depends; its
    configuration then has the new ones.  If it goes on with other versions, a warning says so, and its
    ``versions.json`` from which round on.

    Args:
        config: what is to run.
        folder: made if it is not there.
        resume: go on in a folder that has a run already, or begin one; without it only a new run may begin.

    Raises:
        RunError: if another process works in the folder, if it has a run and ``resume`` is not given, if its run has
            another configuration (the message lists the keys that differ), if it was packed, or if it holds something
            else.
        StorageError: if it cannot be read or written.
    """
    layout = RunLayout(folder)
    with storage_errors("open", folder):
        folder.mkdir(parents=True, exist_ok=True)
        is_foreign = any(folder.iterdir()) and not (layout.config.exists() or layout.lock.exists())
    if is_foreign:
        raise RunError(f"{folder} is not empty, and no run folder", "choose another folder")
    with locked(layout.lock):
        _recover(folder)
        if has_results(layout):
            check_whole(layout)
            _check_same_run(config, layout, resume=resume)
            _note_versions(config, layout)
        else:  # a run that failed before its first result, as on a wrong name, need not stand in the way of the next
            atomic_write(layout.config, dump_config(config))
            write_json(layout.versions, _versions(config))
        yield layout


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder.  The system frees it when the process ends, however it ends; the file itself stays.

    Raises:
        RunError: if another process holds it.
        StorageError: if the file cannot be opened.
    """
    with storage_errors("open", path):
        file = path.open("a")
    with file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as cause:
                if time.monotonic() >= deadline:
                    raise RunError(
                        f"another process works in {path.parent}",
                        "wait until it is done, stop it, or choose another folder",
                    ) from cause
                time.sleep(_LOCK_PAUSE_SECONDS)
        yield


def is_at_work(lock: Path) -> bool:
    """Whether a process holds a lock file, as :func:`open_run` does for as long as it works in a folder.

    The lock is shared for the moment of asking, so that several may ask at once.

    Raises:
        StorageError: if the file cannot be read.
    """
    with storage_errors("read", lock):
        try:
            file = lock.open()
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def append_record(layout: RunLayout, record: RoundRecord) -> None:
    """Add a round to ``metrics.jsonl``, which is replaced as a whole.

    Raises:
        StorageError: if it cannot be written; the earlier rounds are then still there.
    """
    records = [*read_records(layout), record]
    lines = [json.dumps({"schema_version": SCHEMA_VERSION, **asdict(entry)}) + "\n" for entry in records]
    atomic_write(layout.metrics, "".join(lines))


def read_records(layout: RunLayout) -> tuple[RoundRecord, ...]:
    """The completed rounds of a run, from round 0; empty if none is complete.

    Raises:
        RunError: if the file is damaged, or was written by a newer fedse.
        StorageError: if it cannot be read.
    """
    if not layout.metrics.exists():
        return ()
    with storage_errors("read", layout.metrics):
        content = layout.metrics.read_bytes()
    try:
        records = tuple(_record(json.loads(line)) for line in content.decode().splitlines())
    except (KeyError, TypeError, ValueError) as cause:
        raise _damaged(layout.metrics, f"{type(cause).__name__}: {cause}") from cause
    if [record.round for record in records] != list(range(len(records))):
        raise _damaged(layout.metrics, "its rounds are not 0, 1, 2, …")
    return records


def read_config(layout: RunLayout) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        RunError: if it is not there.
        ConfigError: if it is not valid.
    """
    if not layout.config.is_file():
        raise RunError(f"{layout.root} is no run folder: it has no {layout.config.name}", "check the path")
    return load_config(None, layout.config, [])


def has_results(layout: RunLayout) -> bool:
    """There is something that the configuration decided; a packed run has its records, and no adapters."""
    return layout.global_adapter(0).exists() or layout.metrics.exists()


def check_whole(layout: RunLayout) -> None:
    """Tell a run whose adapters and experience were left behind from one that has not made them yet.

    Raises:
        RunError: if the folder holds the records of a run, but not what it made.
    """
    if has_results(layout) and not layout.global_adapter(0).exists():
        raise RunError(
            f"{layout.root} was packed: it has the results of its run, without adapters and experience",
            f"use the folder that it was packed from, or run it anew (--config {layout.config} --out elsewhere)",
        )


def _record(data: Mapping[str, Any]) -> RoundRecord:
    if data["schema_version"] > SCHEMA_VERSION:
        raise ValueError(f"schema {data['schema_version']} is of a newer fedse")
    return RoundRecord(
        round=data["round"],
        clients=data["clients"],
        evaluation=_rates(data["evaluation"]),
        adapter=data["adapter"],
        seconds=data["seconds"],
        adapters=data.get("adapters", {}),  # older runs have only federated sites
        pooled=data.get("pooled", {}),
        transfer={name: _rates(rates) for name, rates in data.get("transfer", {}).items()},
    )


def _rates(data: Mapping[str, Any]) -> dict[str, SuccessRate]:
    return {name: SuccessRate(**rate) for name, rate in data.items()}


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged: {why}", "restore it from a copy, or start again in another folder")


def _recover(folder: Path) -> None:
    """Tidy what a killed process left half-made, in the folder and below it."""
    recover(folder)
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            _recover(child)


def _check_same_run(config: RunConfig, layout: RunLayout, *, resume: bool) -> None:
    if not resume:
        raise RunError(f"{layout.root} has a run already", "use --resume to go on with it, or choose another folder")
    there = read_config(layout)
    differing = run_differences(there, config)
    if differing:
        raise RunError(
            f"{layout.root} has a run of another configuration:" + "".join(f"\n  - {line}" for line in differing),
            f"resume it with its own (--config {layout.config}), or choose another folder",
        )
    if there != config:
        atomic_write(layout.config, dump_config(config))


def _note_versions(config: RunConfig, layout: RunLayout) -> None:
    """Write down which versions differ from those that made the rounds so far, if there are rounds still to come."""
    done = len(read_records(layout))
    if done > config.rounds or not layout.versions.is_file():
        return
    noted = read_json(layout.versions, schema_version=SCHEMA_VERSION)
    differing = {
        name: (found, now)
        for name, now in _versions(config).items()
        if name != "schema_version" and (found := _latest(noted.get(name, "not recorded"))) != now
    }
    if differing:
        for name, (_, now) in differing.items():
            noted[name] = f"{noted.get(name, 'not recorded')}, then {now} from round {done}"
        write_json(layout.versions, noted)
        changes = "; ".join(f"{name} {found}, now {now}" for name, (found, now) in differing.items())
        warnings.warn(
            VersionWarning(f"{layout.root} goes on with other versions from round {done}: {changes}"), stacklevel=2
        )


def _latest(noted: str) -> str:
    """The version that a run was last at work with, of "2.12, then 2.13 from round 4"."""
    return noted.rpartition(", then ")[2].rpartition(" from round ")[0] if ", then " in noted else noted


def _versions(config: RunConfig) -> dict[str, Any]:
    from fedse.models.base import arithmetic  # with torch, which whoever only reads a run can do without

    return {
        "schema_version": SCHEMA_VERSION,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "source": source_digest(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "arithmetic": arithmetic(config.model),
    }
