"""Trajectories as gzipped JSON lines: one episode a line, equal episodes give equal bytes."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from fedse.errors import RunError
from fedse.storage import atomic_write, storage_errors
from fedse.texts import parse_json
from fedse.types import Trajectory


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write episodes, whole or not at all.

    Raises:
        StorageError: if the file cannot be written.
    """
    lines = "".join(json.dumps(trajectory.to_json()) + "\n" for trajectory in trajectories)
    atomic_write(path, gzip.compress(lines.encode(), mtime=0))  # without the time, or equal content would differ


def read_trajectories(path: Path) -> list[Trajectory]:
    """The inverse of :func:`write_trajectories`.

    Raises:
        StorageError: if the file is missing or cannot be read.
        RunError: if it is damaged.
    """
    with storage_errors("read", path):
        content = path.read_bytes()
    try:
        lines = gzip.decompress(content).decode().splitlines()
        return [Trajectory.from_json(parse_json(line)) for line in lines]
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as cause:
        raise RunError(
            f"{path} is damaged: {type(cause).__name__}: {cause}", "restore it from a copy of the run folder"
        ) from cause
