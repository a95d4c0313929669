"""A run folder as readers see it.  Nothing but this module knows where things lie in one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fedse.adapters.files import load_adapter
from fedse.adapters.parts import has_own_parts, with_own_parts
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.errors import AdapterError, MessageError, RunError, boundary
from fedse.experience import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.channel import read_reply
from fedse.federation.evaluators import evaluators
from fedse.federation.server import strategy_of
from fedse.federation.strategies import strategy_class
from fedse.messages import Update
from fedse.progress import Phase
from fedse.results.exchange import traffic
from fedse.results.measures import Measurement, measure
from fedse.runs import folder as run_folder
from fedse.runs.layout import EnvironmentFolder, RunFolder, ServerFolder, SiteFolder
from fedse.runs.phases import completed
from fedse.runs.records import SCHEMA_VERSION
from fedse.runs.records import read_records as records_of
from fedse.runs.rounds import adapter_folder, has_adapter, load_state
from fedse.runs.rounds import traffic as traffic_of_round
from fedse.storage import read_json, storage_errors
from fedse.texts import command
from fedse.types import RoundRecord, Trajectory

#: Episodes that a site explored (those of round 0 are its demonstrations), or played in an evaluation.
Episodes = Literal["explored", "held-out"]


#: How far below a folder runs are looked for: a folder of suites has their runs in SUITE/cells/MODEL/METHOD/seed-N.
_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class FinishedPhase:
    """A phase that is complete.

    Attributes:
        site: who completed it: an environment at a site, or the site.
        round, phase: when, and what was done.
        metrics: what it measured.
        seconds: how long it took.
        ended: when it was complete, in seconds since the epoch; none if that was not written down.
    """

    site: str
    round: int
    phase: Phase
    metrics: Mapping[str, Any]
    seconds: float
    ended: float | None


@dataclass(frozen=True)
class Run:
    """A run folder; its configuration and the completed rounds (from 0) are read at once, all else when asked for."""

    folder: Path
    config: RunConfig
    records: tuple[RoundRecord, ...]

    @property
    def rounds_done(self) -> int:
        """Completed rounds, round 0 not counted."""
        return max(0, len(self.records) - 1)

    @property
    def is_complete(self) -> bool:
        """All rounds are done."""
        return len(self.records) > self.config.rounds

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The rounds after which held-out tasks were played, in order."""
        return tuple(record.round for record in self.records if record.evaluation)

    @property
    def evaluators(self) -> dict[str, str]:
        """Environment, as evaluations label it → the client that plays its held-out tasks."""
        return {label: client.name for label, client in evaluators(self.config).items()}

    @property
    def sites(self) -> tuple[str, ...]:
        """Of what the run tells: the environments at the sites, then the sites that have several."""
        return tuple(dict.fromkeys([*(client.name for client in self.config.clients), *self.config.sites]))

    @cached_property
    def is_at_work(self) -> bool:
        """A process works in the folder; as it was when first asked."""
        return run_is_at_work(self.folder)

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Software → version, as the run noted it at its beginning and where it changed; empty if that is not here."""
        path = self._server.versions
        noted = read_json(path, schema_version=SCHEMA_VERSION) if path.is_file() else {}
        return {name: str(version) for name, version in noted.items() if name != "schema_version"}

    @cached_property
    def phases(self) -> tuple[FinishedPhase, ...]:
        """The completed phases of the sites whose folders are here, also in the round that is under way.

        Raises:
            RunError: if a phase's marker is damaged.
        """
        folder = RunFolder(self.folder)
        places: dict[str, list[EnvironmentFolder | SiteFolder]] = {name: [] for name in self.sites}
        for client in self.config.clients:
            places[client.name].append(folder.environment(client))
        for site in self.config.sites:
            if folder.site(site).root not in [place.root for place in places[site]]:
                places[site].append(folder.site(site))
        markers = (
            (name, number, phase, place.marker(number, phase))
            for name, roots in places.items()
            for number in range(len(self.records) + 1)
            for phase in Phase
            for place in roots
        )
        done = ((name, number, phase, completed(marker)) for name, number, phase, marker in markers if marker.exists())
        return tuple(
            FinishedPhase(name, number, phase, report.metrics, report.seconds, report.ended)
            for name, number, phase, report in done
        )

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """Every number that the run wrote down, the round that is under way included.

        Raises:
            RunError, AdapterError, StorageError: if a file is damaged or cannot be read.
        """
        sent, phases = traffic(self), self.phases
        with boundary(RunError, f"{self._server.metrics} is damaged", "restore it from a copy of the run folder"):
            return tuple(measure(self.config, self.records, phases, sent))

    def check_numbers(self) -> None:
        """Check that all numbers of the run can be read; raises as :attr:`measurements` does."""
        _ = self.measurements

    @property
    def last_sign(self) -> FinishedPhase | None:
        """The phase that was completed last, as far as that is known."""
        return max((phase for phase in self.phases if phase.ended), key=lambda phase: phase.ended or 0.0, default=None)

    def series(self, phase: Phase, metric: str, *, site: str) -> dict[int, float]:
        """Round → value of a site's metric, in the order of the rounds."""
        return {
            measured.round: measured.value
            for measured in self.measurements
            if measured.phase is phase and measured.metric == metric and measured.site == site
        }

    def has_episodes(self, kind: Episodes, site: str, number: int) -> bool:
        """The episodes of a site in a round are here; a site may keep them to itself."""
        return self._episodes(kind, site, number).is_file()

    def episodes(self, kind: Episodes, site: str, number: int) -> list[Trajectory]:
        """The episodes of a site in a round.

        Raises:
            RunError: if the site's folder is not here, or the file is damaged.
            StorageError: if it cannot be read.
        """
        self._need(site)
        return read_trajectories(self._episodes(kind, site, number))

    def experience(self, site: str) -> list[Trajectory]:
        """All episodes of a site's store.

        Raises:
            RunError: if the site's folder is not here.
            StoreError, StorageError: if the store cannot be read.
        """
        self._need(site)
        with ExperienceStore(self._place(site).experience, readonly=True) as store:
            return store.trajectories()

    def adapter_rounds(self, site: str = "") -> list[int]:
        """The rounds whose adapter is here, in order: the site's own where sites have their own, or the global one."""
        numbers = sorted(int(path.name) for path in (self._server.root / "rounds").glob("[0-9][0-9][0-9]*"))
        return [number for number in numbers if has_adapter(self._server, number, site)]

    def has_round(self, number: int) -> bool:
        """What the server keeps of a round is here."""
        return self._server.round(number).is_dir()

    def adapter(self, number: int, site: str = "") -> AdapterState:
        """The adapter after a round: the site's own where sites have their own, or the global one; 0: the initial one.

        What the server does not have, because it stays at the site, is taken from the site's folder.

        Raises:
            RunError, AdapterError: if it is missing or damaged.
        """
        name = self._site(site)
        adapter = load_adapter(adapter_folder(self._server, number, name), expect=None)
        return self._with_private_parts(adapter, number, name) if site and number else adapter

    def has_update(self, number: int, site: str) -> bool:
        """What a site sent in a round is here."""
        return self._server.reply(number, site).is_file()

    def update(self, number: int, site: str) -> AdapterState:
        """The adapter that a site had trained in a round: what it sent, in what it was sent.

        Parts that stay at the site are left out.

        Raises:
            AdapterError, StorageError: if it is damaged, or missing.
        """
        path = self._server.reply(number, site)
        strategy = strategy_of(self.config)
        try:
            answer = read_reply(strategy, self._server, number, site).answer
        except MessageError as cause:
            raise AdapterError(f"{path} is damaged: {cause}", "restore it from a copy of the run folder") from cause
        if not isinstance(answer, Update):
            raise AdapterError(f"{path} holds no adapter: it says {answer.kind}", "choose another round or site")
        sent = strategy.instruct(load_state(self._server, number - 1), site)
        return sent.work.trained.into(sent.start or sent.adapter, answer.adapter)

    def traffic(self, number: int) -> dict[str, tuple[int, int]]:
        """Site → (bytes that it was sent, bytes that it sent) for the update of a round."""
        return traffic_of_round(self._server, number)

    def check_whole(self) -> None:
        """Check that what the run made was not left behind; else, in a packed run, a ``RunError``."""
        run_folder.check_whole(self._server)

    def check_begun(self) -> None:
        """Check that a round after round 0 is complete; else a ``RunError``."""
        if not self.rounds_done:
            again = command("fedse run --resume --out", self.folder)
            mend = f"{again} goes on with it, unless it is to have none (rounds: 0)"
            raise RunError(f"{self.folder} has no complete round yet", mend)

    def published(self) -> Iterator[Path]:
        """The files that a packed run has: configuration, versions, records and held-out episodes."""
        server = (self._server.config, self._server.versions, self._server.metrics)
        yield from (path for path in server if path.is_file())
        for kind in ("evaluation", "transfer"):
            yield from sorted(self.folder.glob(f"sites/**/{kind}/*.jsonl.gz"))

    @property
    def exchange_file(self) -> Path:
        """Where a packed run tells of the adapters that it goes without (:mod:`fedse.results.exchange`)."""
        return self._server.exchange

    @property
    def _server(self) -> ServerFolder:
        return RunFolder(self.folder).server

    def _place(self, name: str) -> EnvironmentFolder:
        [client] = (client for client in self.config.clients if client.name == name)
        return RunFolder(self.folder).environment(client)

    def _with_private_parts(self, adapter: AdapterState, number: int, site: str) -> AdapterState:
        if not strategy_class(self.config.method.strategy).personal:
            return adapter
        sent = strategy_of(self.config).instruct(load_state(self._server, number), site)
        if not has_own_parts(sent.adapter, adapter.tensors.keys(), sent.work.private):
            return adapter
        folder = RunFolder(self.folder).site(site)
        trained = [n for n in range(1, self.config.rounds + 1) if folder.adapter(n).is_dir()]
        before = [n for n in trained if n <= number]
        if folder.root.is_dir() and not trained:
            return adapter  # the site never trained: its parts are those that the run began with
        if not before:
            raise RunError(
                f"{site} has parts of an adapter to itself, and those of round {number} are not in {self.folder}",
                "name the last round, of a run whose sites' folders are here",
            )
        return with_own_parts(sent.adapter, load_adapter(folder.adapter(before[-1]), expect=None), sent.work.private)

    def _site(self, name: str) -> str:
        """The site of an environment; a site's own name stays."""
        return next((client.at for client in self.config.clients if client.name == name), name)

    def _episodes(self, kind: Episodes, name: str, number: int) -> Path:
        place = self._place(name)
        return place.trajectories(number) if kind == "explored" else place.evaluation(number)

    def _need(self, name: str) -> None:
        if not self._place(name).root.is_dir():
            what = f"the folder of site {self._site(name)!r} of {self.folder} is not here"
            raise RunError(what, "read the run where the site keeps it")


def is_run(folder: Path) -> bool:
    """The folder is that of a run."""
    return RunFolder(folder).server.config.is_file()


def runs_below(folder: Path) -> list[Path]:
    """The folder itself if it is that of a run, else the run folders in it, those of suites included, in order.

    Raises:
        StorageError: if the folder cannot be read.
    """
    with storage_errors("read", folder):
        return list(_runs_below(folder, _DEEPEST))


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and os.access(child, os.R_OK | os.X_OK) and not child.name.startswith("."):
                yield from _runs_below(child, depth - 1)


def run_is_at_work(folder: Path) -> bool:
    """A process works in a run folder now; none does in one that is not there."""
    return run_folder.is_at_work(RunFolder(folder).server.lock)


def read_records(folder: Path) -> tuple[RoundRecord, ...]:
    """The completed rounds of a run folder, from round 0; empty if none is complete, or the folder is not there.

    Raises:
        RunError: if the records are damaged.
        StorageError: if they cannot be read.
    """
    server = RunFolder(folder).server
    with boundary(RunError, f"{server.metrics} is damaged", "restore it from a copy of the run folder"):
        return records_of(server)


def run_at(folder: Path) -> Run:
    """The run of a folder, however far it is; nothing in it is touched, and a process may be at work there.

    Raises:
        RunError: if the folder is no run, or its records are damaged.
        ConfigError: if its configuration is not valid.
        StorageError: if a file cannot be read.
    """
    return Run(folder, run_folder.read_config(RunFolder(folder).server), read_records(folder))


def run_around(path: Path) -> Run | None:
    """The run in whose folder a path lies, or which it is; none if there is none."""
    return next((run_at(folder) for folder in (path, *path.resolve().parents) if is_run(folder)), None)


def run_of_adapter(place: Path) -> Run | None:
    """The run that has an adapter folder at one of the places where runs have them; none if there is none."""
    place = place.resolve()
    for folder in place.parents:
        match place.relative_to(folder).parts:
            case ("server", "rounds", _, "global") | ("server", "rounds", _, "adapters", _) if is_run(folder):
                return run_at(folder)
    return None


def read_run(folder: Path, *, allow_unfinished_start: bool = False) -> Run:
    """Read a run for a report: all its numbers, and that they are sound.

    Raises:
        RunError: if the folder is no run, has no completed round 0 (which can be allowed), or a file is damaged.
        ConfigError: if its configuration is not valid.
        AdapterError, StorageError: if a file is damaged or cannot be read.
    """
    run = run_at(folder)
    if not run.records and not allow_unfinished_start:
        raise RunError(
            f"{folder} has no completed round 0 yet, so there is nothing to report",
            f"go on with it ({command('fedse run --resume --out', folder)}), "
            f"or follow it ({command('fedse report --live', folder)})",
        )
    run.check_numbers()
    return run


def read_runs(folders: Iterable[Path], *, allow_unfinished_start: bool = False) -> list[Run]:
    """Read several runs (:func:`read_run`); a folder that is named twice is read once."""
    distinct = {folder.resolve(): folder for folder in folders}.values()
    return [read_run(folder, allow_unfinished_start=allow_unfinished_start) for folder in distinct]


def state_of(folder: Path) -> object:
    """What changes when a run gets further: its records, the markers of its phases, and whether a process is at work.

    Raises:
        StorageError: if the folder cannot be read.
    """
    metrics = RunFolder(folder).server.metrics
    with storage_errors("read", folder):
        markers = tuple(sorted(folder.glob("sites/**/phases/round-*.json")))
        written = metrics.stat().st_mtime_ns if metrics.exists() else 0
    return folder, written, markers, run_is_at_work(folder)
