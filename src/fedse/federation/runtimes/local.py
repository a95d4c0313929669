"""A whole federation on one machine: in one process, where the clients take turns on one base model, or in several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.errors import RunError
from fedse.federation.aggregation import get_aggregator
from fedse.federation.runtimes.exchange import Exchanged, Federation, exchange
from fedse.federation.runtimes.workers import worker_sites
from fedse.progress import Listener, Phase, silent
from fedse.runs.evaluators import evaluators
from fedse.runs.folder import append_record, open_run, read_records
from fedse.runs.layout import RunLayout
from fedse.runs.phases import PhaseReport, completed, phase_reports
from fedse.sites.baseline import adopt_baselines
from fedse.sites.host import Job, LocalSites, Sites, Task
from fedse.types import RoundRecord, SuccessRate


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind.

    Attributes:
        folder: the run folder.
        adapters: client → folder of the adapter that it ends with, which peft loads; one for all unless the sites are
            isolated.
        records: one per round, from round 0, the initial adapter.
    """

    folder: Path
    adapters: Mapping[str, Path]
    records: tuple[RoundRecord, ...]

    @property
    def adapter(self) -> Path:
        """Folder of the final global adapter.

        Raises:
            RunError: if there is none, because the sites are isolated.
        """
        first, *others = set(self.adapters.values())
        if others:
            raise RunError(
                f"the sites of {self.folder} are isolated: there is no global adapter", "take one of .adapters"
            )
        return first

    @property
    def before(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the initial adapter."""
        return self.records[0].evaluation

    @property
    def after(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the final adapter, or of the one of the site that has the environment."""
        return self.records[-1].evaluation


def run(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    listener: Listener = silent,
    baselines: Iterable[Path] = (),
) -> RunResult:
    """Run a federation from its configuration, or go on with it.

    Killed at any moment and resumed, it ends with the same adapters and metrics, byte for byte but for seconds, as if
    it had never been interrupted (on one machine with one set of versions).  A finished run returns its result at once.

    Args:
        config: what to run.
        folder: the run folder; see :mod:`fedse.runs.layout`.
        resume: go on in a folder that has a run already, or begin one.
        listener: told of progress; an exception that it raises stops the run, which can then be resumed.
        baselines: other runs on this machine; where one has played the same episodes with the bare base model, they are
            taken over (:mod:`fedse.sites.baseline`).

    Raises:
        RunError: if the folder cannot be used; see :func:`fedse.runs.folder.open_run`.
        ConfigError, UnknownNameError: if the configuration names something that does not exist or cannot work.
        ModelError: if the base model cannot be loaded.
        EnvironmentFault: if an environment is broken; what was done before is kept, and the run can be resumed.
        StorageError, StoreError: if a file cannot be written; likewise.
    """
    get_aggregator(config.method.aggregator)  # before anything is loaded or written
    with open_run(config, folder, resume=resume) as layout:
        done = len(read_records(layout))
        if done <= config.rounds:
            with _sites(config, layout, listener) as sites:
                _Rounds(Federation(config, layout, listener, sites), baselines).run()
        ends = {
            client.name: layout.site_adapter(config.rounds, client.name, config.method.sharing)
            for client in config.clients
        }
        return RunResult(folder, ends, read_records(layout))


def _sites(config: RunConfig, layout: RunLayout, listener: Listener) -> AbstractContextManager[Sites]:
    if config.workers > 1:
        return worker_sites(config, layout, listener)
    return nullcontext(LocalSites(config, layout, listener))


class _Rounds:
    """The round loop."""

    def __init__(self, federation: Federation, baselines: Iterable[Path]) -> None:
        self._baselines = baselines
        self._federation = federation
        self._config = federation.config
        self._layout = federation.layout
        self._evaluators = evaluators(federation.config)

    def run(self) -> None:
        done = len(read_records(self._layout))
        if done == 0:
            self._begin()
            done = 1
        for round in range(done, self._config.rounds + 1):
            self._record(round, exchange(self._federation, round))

    def _begin(self) -> None:
        """Round 0: the initial adapter, the demonstrations if anything is to be learnt, and the evaluation before."""
        [initial] = self._federation.sites.do([Job(Task.INITIALIZE, "", 0)])
        self._federation.save(0, initial)
        # Not before: until there is an adapter the folder may still be given to another configuration.
        adopt_baselines(self._config, self._layout, self._baselines)
        if self._config.rounds:
            self._federation.ask(Task.DEMONSTRATE, 0, self._federation.clients)
        self._record(0, Exchanged(initial.digest))

    def _record(self, round: int, done: Exchanged) -> None:
        """Evaluate if this round is due, and complete the round."""
        evaluation, transfer = self._evaluate(round) if self._is_evaluated(round) else ({}, {})
        reports = {name: phase_reports(self._layout, name, round) for name in sorted(self._federation.clients)}
        record = RoundRecord(
            round=round,
            clients={name: _metrics(phases, done.outcomes.get(name)) for name, phases in reports.items()},
            evaluation=evaluation,
            adapter=done.adapter,
            seconds=_seconds([*_spent(reports), *self._transferred(round, transfer)], done),
            adapters=done.adapters,
            pooled={} if done.pooled is None else {**done.pooled.metrics, "seconds": done.pooled.seconds},
            transfer=transfer,
        )
        append_record(self._layout, record)

    def _evaluate(self, round: int) -> tuple[dict[str, SuccessRate], dict[str, dict[str, SuccessRate]]]:
        """Every site with the adapter that it has; in the end each isolated site's adapter at the other sites, too."""
        owners = self._federation.clients if self._is_transferred(round) else []
        visits = [
            (owner, label) for owner in sorted(owners) for label, host in self._evaluators.items() if host != owner
        ]
        jobs = [Job(Task.EVALUATE, host, round) for host in self._evaluators.values()]
        jobs += [Job(Task.EVALUATE, self._evaluators[label], round, owner) for owner, label in visits]
        rates = self._federation.sites.do(jobs)
        evaluation = dict(zip(self._evaluators, rates, strict=False))
        abroad = dict(zip(visits, rates[len(evaluation) :], strict=True))
        transfer = {
            owner: {label: abroad.get((owner, label), own) for label, own in evaluation.items()}
            for owner in sorted(owners)
        }
        return evaluation, transfer

    def _transferred(self, round: int, transfer: Mapping[str, Mapping[str, SuccessRate]]) -> list[tuple[Phase, float]]:
        """The time that every evaluation of another site's adapter took."""
        return [
            (Phase.EVALUATE, completed(self._layout.transfer_marker(host, round, owner)).seconds)
            for owner, rates in transfer.items()
            for label in rates
            if (host := self._evaluators[label]) != owner
        ]

    def _is_evaluated(self, round: int) -> bool:
        every = self._config.evaluation.every
        return round in (0, self._config.rounds) or (every > 0 and round % every == 0)

    def _is_transferred(self, round: int) -> bool:
        isolated = self._config.method.sharing == "isolated" and len(self._config.clients) > 1
        return isolated and round == self._config.rounds > 0


def _metrics(reports: Mapping[Phase, PhaseReport], outcome: str | None) -> dict[str, Any]:
    """A client's part of a round's record; what it evaluated has a place of its own there."""
    phases: dict[str, Any] = {
        phase.value: {**report.metrics, "seconds": report.seconds}
        for phase, report in reports.items()
        if phase is not Phase.EVALUATE
    }
    return phases if outcome is None else phases | {"outcome": outcome}


def _spent(reports: Mapping[str, Mapping[Phase, PhaseReport]]) -> list[tuple[Phase, float]]:
    return [(phase, report.seconds) for phases in reports.values() for phase, report in phases.items()]


def _seconds(sites: Iterable[tuple[Phase, float]], done: Exchanged) -> dict[str, float]:
    """Phase → seconds over all clients and the server."""
    total = dict.fromkeys(Phase, 0.0) | {Phase.AGGREGATE: done.seconds}
    for phase, seconds in [*sites, *([(Phase.TRAIN, done.pooled.seconds)] if done.pooled else [])]:
        total[phase] += seconds
    return {phase.value: round(spent, 3) for phase, spent in total.items() if spent}
