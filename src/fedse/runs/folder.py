"""A server's folder: who may work in it, which configuration it belongs to, and with which versions."""

from __future__ import annotations

import fcntl
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedse.config import RunConfig
from fedse.errors import RunError, VersionWarning
from fedse.runs.identity import run_differences
from fedse.runs.layout import ServerFolder
from fedse.runs.records import SCHEMA_VERSION, read_records
from fedse.settings import dump_config, load_config
from fedse.storage import atomic_write, read_json, recover_below, storage_errors, write_json

#: How long a lock is tried for: a reader that asks who holds it shares it for an instant.
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 0.5, 0.01


@contextmanager
def open_server(
    config: RunConfig,
    folder: ServerFolder,
    *,
    resume: bool,
    sites_change: bool = False,
    software: Callable[[], Mapping[str, str]],
) -> Iterator[None]:
    """Open a server's folder for work, alone.  A run begins with its configuration and the versions in use.

    A run that goes on may have another name and another number of workers, on which no result depends; its
    configuration then has the new ones.  If it goes on with other versions, a warning says so, and its
    ``versions.json`` from which round on.

    Args:
        config: what is to run.
        folder: made if it is not there.
        resume: go on in a folder that has a run already, or begin one; without it only a new run may begin.
        sites_change: the run may go on with sites that it had not, and without some that it had.
        software: tells name → version of what makes the numbers.

    Raises:
        RunError: if another process works in the folder, if it has a run and ``resume`` is not given, if its run has
            another configuration (the message lists the keys that differ), if it was packed, or if it holds something
            else.
        StorageError: if it cannot be read or written.
    """
    with storage_errors("open", folder.root):
        folder.root.mkdir(parents=True, exist_ok=True)
        is_foreign = any(folder.root.iterdir()) and not (folder.config.exists() or folder.lock.exists())
    if is_foreign:
        raise RunError(f"{folder.root} is not empty, and no server's folder", "choose another folder")
    if not folder.lock.exists():  # so nobody is at work, and what is refused is left without one
        _check(config, folder, resume=resume, sites_change=sites_change)
    with locked(folder.lock):
        recover_below(folder.root)
        _check(config, folder, resume=resume, sites_change=sites_change)
        if has_results(folder):
            if read_config(folder) != config:
                atomic_write(folder.config, dump_config(config))
            _note_versions(config, folder, software)
        else:  # a run that failed before its first result, as on a wrong name, need not stand in the way of the next
            atomic_write(folder.config, dump_config(config))
            write_json(folder.versions, {"schema_version": SCHEMA_VERSION, **software()})
        yield


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


def read_config(folder: ServerFolder) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        RunError: if it is not there.
        ConfigError: if it is not valid.
    """
    if not folder.config.is_file():
        raise RunError(f"{folder.root} is no run folder: it has no {folder.config.name}", "check the path")
    return load_config(None, folder.config, [])


def has_results(folder: ServerFolder) -> bool:
    """There is something that the configuration decided; a packed run has its records, and no adapters."""
    return folder.round(0).exists() or folder.metrics.exists()


def check_whole(folder: ServerFolder) -> None:
    """Tell a run whose adapters and experience were left behind from one that has not made them yet.

    Raises:
        RunError: if the folder holds the records of a run, but not what it made.
    """
    if has_results(folder) and not folder.round(0).exists():
        raise RunError(
            f"{folder.root} was packed: it has the results of its run, without adapters and experience",
            f"use the folder that it was packed from, or run it anew (--config {folder.config} --out elsewhere)",
        )


def _check(config: RunConfig, folder: ServerFolder, *, resume: bool, sites_change: bool) -> None:
    """Refuse a folder whose run is not this one, or cannot go on; nothing is written."""
    if not has_results(folder):
        return
    check_whole(folder)
    if not resume:
        raise RunError(f"{folder.root} has a run already", "use --resume to go on with it, or choose another folder")
    there = read_config(folder)
    differing = run_differences(*_of_common_sites(there, config)) if sites_change else run_differences(there, config)
    if differing:
        raise RunError(
            f"{folder.root} has a run of another configuration:" + "".join(f"\n  - {line}" for line in differing),
            f"resume it with its own (--config {folder.config}), or choose another folder",
        )


def _of_common_sites(*configs: RunConfig) -> Iterator[RunConfig]:
    """Each with the clients alone that all have, in the same order."""
    common = set.intersection(*({client.name for client in config.clients} for config in configs))
    for config in configs:
        clients = sorted((client for client in config.clients if client.name in common), key=lambda client: client.name)
        yield config.model_copy(update={"clients": tuple(clients)})


def _note_versions(config: RunConfig, folder: ServerFolder, software: Callable[[], Mapping[str, str]]) -> None:
    """Write down which versions differ from those that made the rounds so far, if there are rounds still to come."""
    done = len(read_records(folder))
    if done > config.rounds or not folder.versions.is_file():
        return
    noted = read_json(folder.versions, schema_version=SCHEMA_VERSION)
    differing = {
        name: (found, now)
        for name, now in software().items()
        if (found := _latest(noted.get(name, "not recorded"))) != now
    }
    if differing:
        for name, (_, now) in differing.items():
            noted[name] = f"{noted.get(name, 'not recorded')}, then {now} from round {done}"
        write_json(folder.versions, noted)
        changes = "; ".join(f"{name} {found}, now {now}" for name, (found, now) in differing.items())
        warnings.warn(
            VersionWarning(f"{folder.root} goes on with other versions from round {done}: {changes}"), stacklevel=2
        )


def _latest(noted: str) -> str:
    """The version that a run was last at work with, of "2.12, then 2.13 from round 4"."""
    return noted.rpartition(", then ")[2].rpartition(" from round ")[0] if ", then " in noted else noted
