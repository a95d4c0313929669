"""The table of a suite: success after the last round, with intervals, and what differs from the reference method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedse.errors import RunError
from fedse.evaluation.bootstrap import Estimate
from fedse.evaluation.comparison import Comparison, compare
from fedse.evaluation.rates import pooled
from fedse.results.held_out import HeldOut, pair_runs, read_held_out
from fedse.results.method_rates import method_rates
from fedse.runs.evaluators import evaluators
from fedse.settings import Method
from fedse.suites.reading import CellResult, CellState, SuiteResults
from fedse.types import SuccessRate


@dataclass(frozen=True)
class TableRow:
    """A method with a model, all its finished seeds pooled.

    Attributes:
        model: name of the model.
        method: the method.
        is_ablation: it belongs into the table of ablations.
        shared_with: name of the method whose runs these are, where both have one configuration; empty otherwise.
        seeds: the seeds that are done.
        failed: those that have failed.
        planned: how many there are to be.
        environments: environment → success rate over the episodes of these seeds; see
            :func:`~fedse.results.method_rates.method_rates` for its interval.
        macro: mean of the environments, the primary endpoint; ``None`` without a finished seed.
        task_weighted: mean over all tasks, as in the paper's tables.
        against: comparison with the reference method over the seeds that both have; ``None`` for the reference itself,
            and where there is nothing to compare.
        notes: failures, faults, runs of different versions, and why something cannot be compared.
    """

    model: str
    method: Method
    is_ablation: bool
    shared_with: str
    seeds: tuple[int, ...]
    failed: tuple[int, ...]
    planned: int
    environments: Mapping[str, SuccessRate]
    macro: Estimate | None
    task_weighted: Estimate | None
    against: Comparison | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TransferRow:
    """What an adapter that one isolated site trained achieves everywhere.

    Attributes:
        model: name of the model.
        method: the method.
        site: whose adapter it is.
        home: the environment of that site, as in the main table.
        environments: environment → success rate over the episodes of all finished seeds.
    """

    model: str
    method: Method
    site: str
    home: str
    environments: Mapping[str, SuccessRate]


@dataclass(frozen=True)
class SuiteTable:
    """The results of a suite so far.

    Attributes:
        title: name and description of the suite.
        reference: label of the method that the others are compared with.
        models: names of the models.
        environments: columns, in the order of the sites.
        rows: model by model, methods before ablations.
        transfer: rows of the table on the other sites; empty without isolated sites.
    """

    title: str
    reference: str
    models: tuple[str, ...]
    environments: tuple[str, ...]
    rows: tuple[TableRow, ...]
    transfer: tuple[TransferRow, ...]


def suite_table(results: SuiteResults) -> SuiteTable:
    """Put the finished cells of a suite together.

    Rates are those of the last round.  The 95 % intervals of averages and differences are those of the paired
    stratified bootstrap over tasks and seeds (:mod:`fedse.evaluation.bootstrap`); p-values per environment are adjusted
    by Holm's method within each comparison.

    Raises:
        RunError: if the episodes of a finished cell are damaged.
        StorageError: if they, or its versions, cannot be read.
    """
    suite = results.suite
    rows: list[TableRow] = []
    transfer: list[TransferRow] = []
    for model in suite.models:
        held_out = _HeldOutRuns(results, model.name)
        for method in (*suite.methods, *suite.ablations):
            rows.append(_row(results, model.name, method, held_out))
            transfer += _transfer(model.name, method, results.done(model.name, method.name))
    labels = {method.name: method.label for method in (*suite.methods, *suite.ablations)}
    return SuiteTable(
        title=f"{suite.name}: {suite.description}" if suite.description else suite.name,
        reference=labels[suite.reference],
        models=tuple(model.name for model in suite.models),
        environments=suite.environments(),
        rows=tuple(rows),
        transfer=tuple(transfer),
    )


class _HeldOutRuns:
    """The held-out episodes of one model's finished cells; each run folder is read once."""

    def __init__(self, results: SuiteResults, model: str) -> None:
        self._results = results
        self._model = model
        self._read: dict[str, list[HeldOut]] = {}

    def of(self, method: str) -> list[HeldOut]:
        done = self._results.done(self._model, method)
        home = done[0].cell.home if done else method
        if home not in self._read:
            root = self._results.folder  # which is nobody else's: the table may be published
            self._read[home] = [
                read_held_out(found.folder, name=found.folder.relative_to(root).as_posix()) for found in done
            ]
        return self._read[home]


def _row(results: SuiteResults, model: str, method: Method, held_out: _HeldOutRuns) -> TableRow:
    suite = results.suite
    cells = results.of(model, method.name)
    runs = held_out.of(method.name)
    failed = {found.cell.seed: found.error for found in cells if found.state is CellState.FAILED}
    done = results.done(model, method.name)
    notes = [f"seed {seed} failed: {error}" for seed, error in failed.items()]
    notes += _differing_versions((*results.done(model, suite.reference), *done))
    rates = method_rates(_by_environment([found.records[-1].evaluation for found in done]), runs)
    notes += [f"{text}; the averages leave them out" for text in _lost(rates.dropped)]
    if rates.obstacle:
        notes.append(rates.obstacle)
    against = None
    if rates.macro and method.name != suite.reference:
        against, obstacles = _against(runs, held_out.of(suite.reference), rates.dropped)
        notes += obstacles
    return TableRow(
        model=model,
        method=method,
        is_ablation=method in suite.ablations,
        shared_with=cells[0].cell.home if cells[0].cell.is_shared else "",
        seeds=tuple(run.config.seed for run in runs),
        failed=tuple(failed),
        planned=len(cells),
        environments=rates.environments,
        macro=rates.macro,
        task_weighted=rates.task_weighted,
        against=against,
        notes=tuple(notes),
    )


def _differing_versions(runs: Sequence[CellResult]) -> list[str]:
    """A note for each library, or other maker of numbers, that is not the same in all of these runs."""
    versions = [found.versions for found in runs]
    notes = []
    for name in sorted({name for found in versions for name in found}):
        values = sorted({found.get(name, "not recorded") for found in versions})
        if len(values) > 1:
            notes.append(f"compares runs of different {name}: {', '.join(values)}")
    return notes


def _against(
    runs: Sequence[HeldOut], reference: Sequence[HeldOut], told: Mapping[str, int]
) -> tuple[Comparison | None, list[str]]:
    """The comparison over the seeds that both methods have, and what is to be noted of it.

    Args:
        runs: those of the method.
        reference: those of the reference.
        told: environment → tasks lost to faults that the method's own averages leave out, which is noted already.
    """
    common = {run.config.seed for run in runs} & {run.config.seed for run in reference}
    sides = [[run for run in side if run.config.seed in common] for side in (runs, reference)]
    if not common:
        return None, []
    try:
        paired = pair_runs(*sides)
    except RunError as error:
        return None, [error.what]
    more = {name: count for name, count in paired.dropped.items() if count != told[name]}
    notes = [f"{text} on one side or the other; the difference leaves them out" for text in _lost(more)]
    return compare(paired.a, paired.b), notes


def _lost(dropped: Mapping[str, int]) -> list[str]:
    """Where faults took tasks: how many."""
    return [f"{name}: {count} tasks lost episodes to faults" for name, count in dropped.items() if count]


def _transfer(model: str, method: Method, done: Sequence[CellResult]) -> list[TransferRow]:
    if not done:
        return []
    config = done[0].cell.config
    homes = {client: label for label, client in evaluators(config).items()}
    transfers = [found.records[-1].transfer for found in done]
    return [
        TransferRow(
            model,
            method,
            site.name,
            homes[site.name],
            {name: pooled(rates) for name, rates in _by_environment([found[site.name] for found in transfers]).items()},
        )
        for site in config.clients
        if site.name in transfers[0]
    ]


def _by_environment(runs: Sequence[Mapping[str, SuccessRate]]) -> dict[str, list[SuccessRate]]:
    """Environment → the rate of each run, in the order of the runs."""
    return {name: [rates[name] for rates in runs] for name in (runs[0] if runs else {})}
