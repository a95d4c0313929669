"""A run folder as the report sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.errors import RunError, boundary
from fedse.progress import Phase
from fedse.results.exchange import traffic
from fedse.results.measures import Measurement, Phases, measure
from fedse.runs.folder import is_at_work, read_config, read_records
from fedse.runs.layout import RunLayout
from fedse.runs.phases import completed, phase_reports
from fedse.storage import read_json, storage_errors
from fedse.types import RoundRecord


@dataclass(frozen=True, slots=True)
class FinishedPhase:
    """A phase that a site has completed.

    Attributes:
        site: the client; empty for training on the experience of all, where that is pooled.
        round: of the federation.
        phase: what it did.
        seconds: how long that took.
        ended: when it was marked as complete, in seconds since the epoch; the time of the marker's file.
    """

    site: str
    round: int
    phase: Phase
    seconds: float
    ended: float


@dataclass(frozen=True)
class Run:
    """What a run folder holds, without its episodes and adapters.

    Attributes:
        layout: where things lie.
        config: the run's configuration.
        versions: software → version, as the run noted it: that of its beginning, and others that it went on with; empty
            if the file is not there.
        records: the completed rounds, from round 0.
        measurements: every number that the run wrote down, the round that is under way included.
        phases: the sites' completed phases, in no order.
        is_at_work: a process holds the folder's lock.
    """

    layout: RunLayout
    config: RunConfig
    versions: Mapping[str, Any]
    records: tuple[RoundRecord, ...]
    measurements: tuple[Measurement, ...]
    phases: tuple[FinishedPhase, ...]
    is_at_work: bool

    @property
    def is_complete(self) -> bool:
        """All rounds are done."""
        return len(self.records) > self.config.rounds

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The rounds after which held-out tasks were played, in order."""
        return tuple(record.round for record in self.records if record.evaluation)

    @property
    def last_sign(self) -> FinishedPhase | None:
        """The phase that was completed last; none if there is no file of a site."""
        return max(self.phases, key=lambda found: found.ended, default=None)

    def phases_of(self, site: str) -> list[FinishedPhase]:
        """The phases that a site has completed, in no order."""
        return [found for found in self.phases if found.site == site]

    def series(self, phase: Phase, metric: str, *, site: str) -> dict[int, float]:
        """Round → value of a site's metric, in the order of the rounds."""
        return {
            found.round: found.value
            for found in self.measurements
            if found.phase is phase and found.metric == metric and found.site == site
        }


def read_runs(folders: Iterable[Path], *, allow_unfinished_start: bool = False) -> list[Run]:
    """Read several runs; a folder that is named twice is read once.

    Raises:
        RunError, ConfigError, StorageError: see :func:`read_run`.
    """
    distinct = {folder.resolve(): folder for folder in folders}.values()
    return [read_run(folder, allow_unfinished_start=allow_unfinished_start) for folder in distinct]


def read_run(folder: Path, *, allow_unfinished_start: bool = False) -> Run:
    """Read a run folder; nothing in it is touched, and a process may be at work there.

    Args:
        folder: the run folder.
        allow_unfinished_start: accept a run whose round 0 is not complete yet.

    Raises:
        RunError: if the folder is no run, has no completed round 0, or its metrics or a phase's marker is damaged.
        ConfigError: if its configuration is not valid.
        StorageError: if a file cannot be read.
    """
    layout = RunLayout(folder)
    config = read_config(layout)
    with boundary(RunError, f"{layout.metrics} is damaged", "restore it from a copy of the run folder"):
        records = read_records(layout)
    if not records and not allow_unfinished_start:
        raise RunError(
            f"{folder} has no completed round 0 yet, so there is nothing to report",
            f"go on with it (fedse run --resume --out {folder}), or follow it (fedse report --live {folder})",
        )
    versions = read_json(layout.versions) if layout.versions.is_file() else {}
    phases = _phases(layout, config, len(records) + 1)
    with boundary(RunError, f"{layout.metrics} is damaged", "restore it from a copy of the run folder"):
        found = tuple(measure(config, records, phases, traffic(layout, config, records)))
    finished = (*_finished(layout, phases), *_finished_together(layout, len(records) + 1))
    return Run(layout, config, versions, records, found, finished, is_at_work(layout.lock))


def _finished(layout: RunLayout, phases: Phases) -> Iterator[FinishedPhase]:
    for (site, round), reports in phases.items():
        for phase, report in reports.items():
            ended = _modified(layout.marker(site, round, phase))
            yield FinishedPhase(site, round, phase, report.seconds, ended)


def _finished_together(layout: RunLayout, rounds: int) -> Iterator[FinishedPhase]:
    """The updates on the experience of all sites, where that is pooled."""
    for round in range(1, rounds):
        if (marker := layout.pooled(round)).is_file():
            yield FinishedPhase("", round, Phase.TRAIN, completed(marker).seconds, _modified(marker))


def _modified(path: Path) -> float:
    with storage_errors("read", path):
        return path.stat().st_mtime


def _phases(layout: RunLayout, config: RunConfig, rounds: int) -> Phases:
    return {
        (client.name, round): phase_reports(layout, client.name, round)
        for client in config.clients
        for round in range(rounds)
    }
