"""What a page is about: runs put together to methods, and which of them the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedse.errors import RunError
from fedse.results.groups import Group, group_runs
from fedse.results.reading import Run, read_runs
from fedse.results.standings import Standing
from fedse.results.standings import standings as standings_of
from fedse.suites import CellState, SuiteLayout, read_suite
from fedse.texts import command


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
    def labelled_runs(self) -> tuple[tuple[str, Run], ...]:
        """What to call each run, and the run; one that serves for several methods is there once."""
        return tuple({run.folder: (group.label_of(run), run) for group in self.groups for run in group.runs}.values())

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs once."""
        return tuple(run for _, run in self.labelled_runs)

    @property
    def is_complete(self) -> bool:
        """Every run is there and done."""
        return not self.missing and all(run.is_complete for run in self.runs)

    def reference_of(self, group: Group) -> Group | None:
        """What a group is compared with; none for a reference itself."""
        reference = self.references.get(group.model)
        return None if reference is None or reference.label == group.label else reference

    def standings(self) -> list[Standing]:
        """Every group beside its reference.

        Raises:
            RunError, StorageError: if a file of episodes is damaged or cannot be read.
        """
        return standings_of(self.groups, self.reference_of)


def is_suite(folder: Path) -> bool:
    """The folder is that of a suite."""
    return SuiteLayout(folder).suite.is_file()


def read_study(folders: Sequence[Path], *, allow_unfinished_start: bool = False) -> Study:
    """Read the folder of a suite (:func:`study_of_suite`), or run folders (:func:`~fedse.results.reading.read_runs`).

    Raises:
        ConfigError: also if a suite is named beside other folders.
    """
    if len(folders) == 1 and is_suite(folders[0]):
        return study_of_suite(folders[0], allow_unfinished_start=allow_unfinished_start)
    return study_of_runs(read_runs(folders, allow_unfinished_start=allow_unfinished_start))


def study_of_runs(runs: Sequence[Run]) -> Study:
    """At least one run; those that differ in their seeds only are a method, and the first is the others' reference."""
    groups = group_runs(runs)
    title = ", ".join(dict.fromkeys(group.label for group in groups))
    references = {groups[0].model: groups[0]} if len(groups) > 1 else {}
    return Study(title, "", tuple(groups), (), references)


def study_of_suite(folder: Path, *, allow_unfinished_start: bool = False) -> Study:
    """The cells of a suite as far as they have got; if none has completed its round 0, that has to be allowed.

    Raises:
        ConfigError: if the folder has no valid suite.
        RunError, AdapterError, StorageError: if there is nothing to report, or a file is damaged or cannot be read.
    """
    results = read_suite(folder)
    suite = results.suite
    methods, ablations = (tuple(group for group in groups if group.runs) for groups in results.groups())
    references = {group.model: group for group in (*methods, *ablations) if group.method == suite.reference}
    missing = tuple(
        f"{cell.cell} ({f'failed: {cell.error}' if cell.error else cell.state.value})"
        for cell in results.cells
        if not cell.records or cell.state is CellState.FAILED
    )
    study = Study(suite.name, suite.description, methods, ablations, references, missing, folder)
    if not study.runs and not allow_unfinished_start:
        raise RunError(
            f"no run of the suite {folder} has a completed round 0 yet, so there is nothing to report",
            f"go on with it ({command('fedse suite run --resume --out', folder)}), "
            f"or follow it ({command('fedse report --live', folder)})",
        )
    for run in study.runs:
        run.check_numbers()
    return study
