"""The table of a suite: success after the last round, with intervals, and what differs from the reference method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedse.evaluation.rates import pooled
from fedse.results.standings import Standing, standings
from fedse.runs.rounds import GLOBAL
from fedse.settings import Method
from fedse.suites.reading import CellResult, CellState, SuiteResults
from fedse.texts import counted
from fedse.types import SuccessRate


@dataclass(frozen=True)
class TableRow:
    """A method with a model, all its finished seeds pooled.

    Attributes:
        is_ablation: it belongs into the table of ablations.
        shared_with: name of the method whose runs these are, where both have one configuration; empty otherwise.
        failed: the seeds that have failed.
        standing: success, and the comparison with the reference.
        notes: failures, faults, runs of different versions, and why something cannot be compared.
    """

    model: str
    method: Method
    is_ablation: bool
    shared_with: str
    failed: tuple[int, ...]
    standing: Standing
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TransferRow:
    """What an adapter that one isolated site trained achieves everywhere, or the global one without private components.

    Attributes:
        owner: whose adapter it is: a site, or ``_global``.
        home: the environment of that site, as in the main table; empty for the global one.
        environments: environment → success rate over the episodes of all finished seeds.
    """

    model: str
    method: Method
    owner: str
    home: str
    environments: Mapping[str, SuccessRate]


@dataclass(frozen=True)
class SuiteTable:
    """The results of a suite so far.

    Attributes:
        title: name and description of the suite.
        reference: label of the method that the others are compared with.
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

    def of(self, model: str, *, is_ablation: bool) -> list[TableRow]:
        """The rows of one of a model's tables."""
        return [row for row in self.rows if row.model == model and row.is_ablation is is_ablation]


def suite_table(results: SuiteResults) -> SuiteTable:
    """Put the finished cells of a suite together.

    Rates are those of the last round.  The 95 % intervals of averages and differences are those of the paired
    stratified bootstrap over tasks and seeds (:mod:`fedse.evaluation.bootstrap`); p-values per environment are adjusted
    by Holm's method within each comparison.

    Raises:
        RunError: if the episodes of a finished cell are damaged.
        ConfigError: if its configuration is not valid.
        StorageError: if they, or its versions, cannot be read.
    """
    suite = results.suite
    methods, ablations = results.groups()
    references = {group.model: group for group in (*methods, *ablations) if group.method == suite.reference}
    found = standings(
        (*methods, *ablations),
        lambda group: None if group.method == suite.reference else references[group.model],
        # Below the suite's folder, which is nobody else's: the table may be published.
        lambda run: run.folder.relative_to(results.folder).as_posix(),
    )
    by_place = {(standing.group.model, standing.group.method): standing for standing in found}
    places = [
        (model.name, method)
        for model in suite.models
        for method in suite.all_methods
        if results.of(model.name, method.name)
    ]
    return SuiteTable(
        title=f"{suite.name}: {suite.description}" if suite.description else suite.name,
        reference=next(method.label for method in suite.all_methods if method.name == suite.reference),
        models=tuple(model.name for model in suite.models),
        environments=suite.environments(),
        rows=tuple(_row(results, method, by_place[model, method.name]) for model, method in places),
        transfer=tuple(row for model, method in places for row in _transfer(results, model, method)),
    )


def _row(results: SuiteResults, method: Method, standing: Standing) -> TableRow:
    model, means = standing.group.model, standing.means
    cells = results.of(model, method.name)
    failed = {cell.cell.seed: cell.error for cell in cells if cell.state is CellState.FAILED}
    notes = [f"seed {seed} failed: {error}" for seed, error in failed.items()]
    reference = results.done(model, results.suite.reference)
    notes += _differing_versions((*reference, *results.done(model, method.name)))
    notes += [f"{text}; the averages leave them out" for text in _lost(means.dropped)]
    if means.obstacle:
        notes.append(means.obstacle)
    elif standing.compared and standing.obstacle:
        notes.append(standing.obstacle)
    more = {name: count for name, count in standing.dropped.items() if count != means.dropped[name]}
    notes += [f"{text} on one side or the other; the difference leaves them out" for text in _lost(more)]
    return TableRow(
        model=model,
        method=method,
        is_ablation=method in results.suite.ablations,
        shared_with=cells[0].cell.home if cells[0].cell.is_shared else "",
        failed=tuple(failed),
        standing=standing,
        notes=tuple(notes),
    )


def _differing_versions(cells: Sequence[CellResult]) -> list[str]:
    """A note for each library, or other maker of numbers, that is not the same in all of these runs."""
    versions = [cell.run.versions for cell in cells]
    names = sorted({name for noted in versions for name in noted})
    found = {name: sorted({noted.get(name, "not recorded") for noted in versions}) for name in names}
    return [f"compares runs of different {name}: {', '.join(them)}" for name, them in found.items() if len(them) > 1]


def _lost(dropped: Mapping[str, int]) -> list[str]:
    """Where faults took tasks: how many."""
    return [f"{name}: {counted(count, 'task')} lost episodes to faults" for name, count in dropped.items() if count]


def _transfer(results: SuiteResults, model: str, method: Method) -> Iterator[TransferRow]:
    done = results.done(model, method.name)
    if not done:
        return
    homes = {site: label for label, site in done[0].run.evaluators.items()}
    transfers = [cell.records[-1].transfer for cell in done]
    names = [*(client.name for client in done[0].cell.config.clients), GLOBAL]
    for owner in (name for name in names if name in transfers[0]):
        rates = {name: pooled(transfer[owner][name] for transfer in transfers) for name in transfers[0][owner]}
        yield TransferRow(model, method, owner, homes.get(owner, ""), rates)
