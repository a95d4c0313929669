"""A whole federation on one machine: in one process, where the clients take turns on one base model, or in several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.federation.adapter_io import load_adapter, save_adapter
from fedse.federation.aggregation import get_aggregator
from fedse.federation.evaluators import evaluators
from fedse.federation.layout import RunLayout
from fedse.federation.phases import PhaseReport, phase_reports
from fedse.federation.run_folder import append_record, open_run, read_records
from fedse.federation.runtimes.sites import Job, LocalSites, Sites, Task
from fedse.federation.runtimes.workers import worker_sites
from fedse.federation.server import Server
from fedse.progress import Event, Listener, Phase, silent
from fedse.types import AdapterState, RoundRecord, SuccessRate


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind.

    Attributes:
        folder: the run folder.
        adapter: folder of the final global adapter; peft loads it.
        records: one per round, from round 0, the initial adapter.
    """

    folder: Path
    adapter: Path
    records: tuple[RoundRecord, ...]

    @property
    def before(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the initial adapter."""
        return self.records[0].evaluation

    @property
    def after(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the final adapter."""
        return self.records[-1].evaluation


def run(config: RunConfig, folder: Path, *, resume: bool = False, listener: Listener = silent) -> RunResult:
    """Run a federation from its configuration, or go on with it.

    Killed at any moment and resumed, it ends with the same adapters and metrics, byte for byte but for seconds, as if
    it had never been interrupted (on one machine with one set of versions).  A finished run returns its result at once.

    Args:
        config: what to run.
        folder: the run folder; see :mod:`fedse.federation.layout`.
        resume: go on in a folder that has a run already, or begin one.
        listener: told of progress; an exception that it raises stops the run, which can then be resumed.

    Raises:
        RunError: if the folder cannot be used; see :func:`fedse.federation.run_folder.open_run`.
        ConfigError, UnknownNameError: if the configuration names something that does not exist or cannot work.
        ModelError: if the base model cannot be loaded.
        EnvironmentFault: if an environment is broken; what was done before is kept, and the run can be resumed.
        StorageError, StoreError: if a file cannot be written; likewise.
    """
    get_aggregator(config.method.aggregator)  # before anything is loaded or written
    with open_run(config, folder, resume=resume) as layout:
        if len(read_records(layout)) <= config.rounds:
            with _sites(config, layout, listener) as sites:
                _Federation(config, layout, listener, sites).run()
        return RunResult(folder, layout.global_adapter(config.rounds), read_records(layout))


def _sites(config: RunConfig, layout: RunLayout, listener: Listener) -> AbstractContextManager[Sites]:
    if config.workers > 1:
        return worker_sites(config, layout, listener)
    return nullcontext(LocalSites(config, layout, listener))


class _Federation:
    """The round loop."""

    def __init__(self, config: RunConfig, layout: RunLayout, listener: Listener, sites: Sites) -> None:
        self._config = config
        self._layout = layout
        self._listener = listener
        self._sites = sites
        self._clients = [client.name for client in config.clients]
        self._evaluators = evaluators(config)

    def run(self) -> None:
        done = len(read_records(self._layout))
        if done == 0:
            self._begin()
            done = 1
        server = Server(
            get_aggregator(self._config.method.aggregator),
            self._clients,
            self._adapter(done - 1),
            server_lr=self._config.method.server_lr,
            rounds=done - 1,
        )
        for round in range(done, self._config.rounds + 1):
            self._round(round, server)

    def _begin(self) -> None:
        """Round 0: the initial adapter, the demonstrations, and the evaluation before."""
        [initial] = self._sites.do([Job(Task.INITIALIZE, "", 0)])
        self._save(0, initial)
        self._ask(Task.DEMONSTRATE, 0, self._clients)
        self._record(0, initial, outcomes={}, aggregation=0.0)

    def _round(self, round: int, server: Server) -> None:
        updates = self._ask(Task.ROUND, round, self._clients)
        began = time.monotonic()
        adapter = server.round(updates)
        self._save(round, adapter)
        seconds = time.monotonic() - began
        self._listener(Event(Phase.AGGREGATE, round, "", len(updates), len(updates), seconds=seconds, finished=True))
        self._record(round, adapter, outcomes=server.outcomes, aggregation=seconds)

    def _ask(self, task: Task, round: int, clients: Iterable[str]) -> list[Any]:
        return self._sites.do([Job(task, client, round) for client in clients])

    def _record(self, round: int, adapter: AdapterState, *, outcomes: Mapping[str, str], aggregation: float) -> None:
        """Evaluate if this round is due, and complete the round."""
        evaluation = self._evaluate(round) if self._is_evaluated(round) else {}
        reports = {name: phase_reports(self._layout, name, round) for name in sorted(self._clients)}
        record = RoundRecord(
            round=round,
            clients={name: _metrics(done, outcomes.get(name)) for name, done in reports.items()},
            evaluation=evaluation,
            adapter=adapter.digest,
            seconds=_seconds(reports.values(), aggregation),
        )
        append_record(self._layout, record)

    def _evaluate(self, round: int) -> dict[str, SuccessRate]:
        rates = self._ask(Task.EVALUATE, round, self._evaluators.values())
        return dict(zip(self._evaluators, rates, strict=True))

    def _is_evaluated(self, round: int) -> bool:
        every = self._config.evaluation.every
        return round in (0, self._config.rounds) or (every > 0 and round % every == 0)

    def _adapter(self, round: int) -> AdapterState:
        return load_adapter(self._layout.global_adapter(round))

    def _save(self, round: int, adapter: AdapterState) -> None:
        folder = self._layout.global_adapter(round)
        if not folder.exists():  # else a resumed run has just computed the same one again
            save_adapter(adapter, folder, base_name=self._config.model.name)


def _metrics(reports: Mapping[Phase, PhaseReport], outcome: str | None) -> dict[str, Any]:
    """A client's part of a round's record; what it evaluated has a place of its own there."""
    phases: dict[str, Any] = {
        phase.value: {**report.metrics, "seconds": report.seconds}
        for phase, report in reports.items()
        if phase is not Phase.EVALUATE
    }
    return phases if outcome is None else phases | {"outcome": outcome}


def _seconds(clients: Iterable[Mapping[Phase, PhaseReport]], aggregation: float) -> dict[str, float]:
    """Phase → seconds over all clients."""
    total = dict.fromkeys(Phase, 0.0) | {Phase.AGGREGATE: aggregation}
    for reports in clients:
        for phase, report in reports.items():
            total[phase] += report.seconds
    return {phase.value: round(spent, 3) for phase, spent in total.items() if spent}
