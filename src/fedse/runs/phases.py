"""Phases that are done once, also across kills.

A phase reads its inputs from disk, writes its outputs atomically, and last of all its marker.  While there is no
marker, the phase is done anew from the same inputs; all its random streams are derived from names, so its outputs are
the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedse.errors import RunError, StorageError
from fedse.storage import read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """What a completed phase leaves behind.

    Attributes:
        metrics: plain JSON data; the same in every run of the same configuration.
        seconds: wall-clock time of the phase when it was done.
        ended: when it was done, in seconds since the epoch; None in runs of before this was noted.
        adapter: digest of the adapter that it was done with; empty where it needs none, or this was not noted.
    """

    metrics: Mapping[str, Any]
    seconds: float
    ended: float | None = None
    adapter: str = ""


async def once(
    marker: Path,
    work: Callable[[], Awaitable[Mapping[str, Any]]],
    *,
    adapter: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> PhaseReport:
    """Do a phase's work unless its marker says that it is complete.

    Args:
        marker: the file that marks completion; folders on the way to it are made.
        work: does the phase and returns its metrics; doing it twice must give the same outputs and metrics.
        adapter: digest of the adapter that the phase works with.
        clock: tells the seconds that the phase takes.

    Raises:
        RunError: if the marker is damaged, or the phase was done with another adapter.
        StorageError: if the marker cannot be written.
    """
    if not marker.exists():
        began = clock()
        metrics = await work()
        complete(marker, PhaseReport(metrics, round(clock() - began, 3), round(time.time(), 3), adapter))
    report = completed(marker)
    if adapter and report.adapter and report.adapter != adapter:
        raise RunError(
            f"{marker.stem} was done with another adapter than the one that the server sends now",
            "the server went back to an earlier state: restore its folder, or begin a new run",
        )
    return report


def complete(marker: Path, report: PhaseReport) -> None:
    """Mark a phase as complete; its outputs must be written already.

    Raises:
        StorageError: if the marker cannot be written.
    """
    write_json(marker, {"schema_version": SCHEMA_VERSION, **asdict(report)})


def completed(marker: Path) -> PhaseReport:
    """The report of a phase that is complete.

    Raises:
        RunError: if the marker is missing or damaged.
    """
    try:
        data = read_json(marker, schema_version=SCHEMA_VERSION)
        return PhaseReport(data["metrics"], data["seconds"], data.get("ended"), data.get("adapter", ""))
    except (StorageError, KeyError) as cause:
        raise RunError(
            f"{marker} does not say what its phase did: {cause}", "remove that file to have the phase done anew"
        ) from cause
