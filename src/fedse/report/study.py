"""What a page is about: runs put together to methods, and which of them the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedse.errors import RunError
from fedse.results.groups import Group, group_runs
from fedse.results.reading import Run, read_run, read_runs
from fedse.settings import Method
from fedse.suites import CellResult, CellState, SuiteLayout, SuiteResults, read_suite


@dataclass(frozen=True)
class Study:
    """The subject of a page.

    Attributes:
        title: the suite's name, or those of the methods.
        description: one line; empty for runs.
        methods: the groups of the main table.
        ablations: groups in a section of their own.
        references: model → the group that the others with this model are compared with; a model is missing where there
            is nothing to compare.
        missing: cells of the suite that have no completed round yet, or failed, and why.
        suite: the suite's folder; none for runs.
    """

    title: str
    description: str
    methods: tuple[Group, ...]
    ablations: tuple[Group, ...]
    references: dict[str, Group]
    missing: tuple[str, ...] = ()
    suite: Path | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """Methods and ablations."""
        return (*self.methods, *self.ablations)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs once, also those that serve for several methods."""
        return tuple({run.layout.root: run for group in self.groups for run in group.runs}.values())

    @property
    def is_complete(self) -> bool:
        """Every run is there and done."""
        return not self.missing and all(run.is_complete for run in self.runs)

    def reference_of(self, group: Group) -> Group | None:
        """What a group is compared with; none for a reference itself."""
        found = self.references.get(group.model)
        return None if found is None or found.label == group.label else found


def is_suite(folder: Path) -> bool:
    """The folder is that of a suite."""
    return SuiteLayout(folder).suite.is_file()


def read_study(folders: Sequence[Path], *, allow_unfinished_start: bool = False) -> Study:
    """Read the folder of a suite, or run folders.

    Raises:
        ConfigError: if a suite is named beside other folders, or a configuration is not valid.
        RunError, StorageError: see :func:`~fedse.results.reading.read_run`.
    """
    if len(folders) == 1 and is_suite(folders[0]):
        return study_of_suite(folders[0], allow_unfinished_start=allow_unfinished_start)
    return study_of_runs(read_runs(folders, allow_unfinished_start=allow_unfinished_start))


def study_of_runs(runs: Sequence[Run]) -> Study:
    """Runs that differ in their seeds only are one method; the first method is the reference of the others.

    Args:
        runs: at least one.
    """
    groups = group_runs(runs)
    names = list(dict.fromkeys(group.label for group in groups))
    references = {groups[0].model: groups[0]} if len(groups) > 1 else {}
    return Study(", ".join(names), "", tuple(groups), (), references)


def study_of_suite(folder: Path, *, allow_unfinished_start: bool = False) -> Study:
    """The cells of a suite as far as they have got.

    Args:
        folder: the suite's.
        allow_unfinished_start: accept a suite none of whose runs has completed its round 0 yet.

    Raises:
        ConfigError: if the folder has no valid suite.
        RunError, StorageError: if there is nothing to report, or a cell's run is damaged or cannot be read.
    """
    results = read_suite(folder)
    suite = results.suite
    runs: dict[Path, Run] = {}
    for cell in results.cells:
        if cell.records and cell.folder not in runs:
            runs[cell.folder] = read_run(cell.folder)
    if not runs and not allow_unfinished_start:
        raise RunError(
            f"no run of the suite {folder} has a completed round 0 yet, so there is nothing to report",
            f"go on with it (fedse suite run --resume --out {folder}), or follow it (fedse report --live {folder})",
        )
    methods = _groups(results, runs, suite.methods)
    ablations = _groups(results, runs, suite.ablations, first_colour=1)  # colour 0 is the reference beside them
    references = {group.model: group for group in (*methods, *ablations) if group.method == suite.reference}
    missing = tuple(_missing(cell) for cell in results.cells if not cell.records or cell.state is CellState.FAILED)
    return Study(suite.name, suite.description, methods, ablations, references, missing, folder)


def _missing(cell: CellResult) -> str:
    return f"{cell.cell} (failed: {cell.error})" if cell.error else f"{cell.cell} ({cell.state.value})"


def _groups(
    results: SuiteResults, runs: dict[Path, Run], methods: Sequence[Method], first_colour: int = 0
) -> tuple[Group, ...]:
    """A group for each model and method that has runs."""
    groups = []
    for model in results.suite.models:
        for at, method in enumerate(methods):
            cells = results.of(model.name, method.name)
            if found := tuple(runs[cell.folder] for cell in cells if cell.folder in runs):
                groups.append(
                    Group(
                        label=f"{method.label} · {model.name}" if len(results.suite.models) > 1 else method.label,
                        runs=found,
                        colour=first_colour + at,
                        model=model.name,
                        method=method.name,
                        description=method.description,
                        planned=len(cells),
                    )
                )
    return tuple(groups)
