"""A suite's folder as it is: which cells are done, and what they recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from fedse.errors import RunError
from fedse.results.groups import Group
from fedse.results.reading import Run, is_run, read_records, run_at
from fedse.settings import Method
from fedse.storage import read_json
from fedse.suites.cells import FAILURE_SCHEMA, Cell, SuiteLayout
from fedse.suites.loading import load_suite
from fedse.suites.suite import Suite
from fedse.types import RoundRecord


class CellState(StrEnum):
    """How far a cell is."""

    DONE = "done"
    PARTIAL = "partial"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True)
class CellResult:
    """A cell and what its run folder holds.

    Attributes:
        folder: its run folder; that of another method if they share one.
        state: ``PARTIAL`` if its run has begun, ``FAILED`` if it ended with an error.
        records: the completed rounds, from round 0.
        error: why it failed; empty otherwise.
    """

    cell: Cell
    folder: Path
    state: CellState
    records: tuple[RoundRecord, ...]
    error: str = ""

    @cached_property
    def run(self) -> Run:
        """Its run, if that has begun; errors as of :func:`fedse.results.reading.run_at`."""
        return run_at(self.folder)

    @property
    def seconds(self) -> float:
        """Time that the phases of the completed rounds took, also over several processes."""
        return sum(sum(record.seconds.values()) for record in self.records)


@dataclass(frozen=True)
class SuiteResults:
    """A suite, its folder, and the results so far: one for every cell, in the order of :meth:`Suite.cells`."""

    suite: Suite
    folder: Path
    cells: tuple[CellResult, ...]

    def of(self, model: str, method: str) -> tuple[CellResult, ...]:
        """The cells of a method with a model, seed by seed."""
        return tuple(result for result in self.cells if result.cell.is_of(model, method))

    def done(self, model: str, method: str) -> tuple[CellResult, ...]:
        """Those of them that are done."""
        return tuple(result for result in self.of(model, method) if result.state is CellState.DONE)

    def groups(self) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """The methods and the ablations, model by model, each with those of its runs that have a completed round.

        Errors as of :func:`fedse.results.reading.run_at`.
        """
        # Colour 0 is that of the reference, which is drawn beside the ablations.
        return self._groups(self.suite.methods, 0), self._groups(self.suite.ablations, 1)

    def _groups(self, methods: Sequence[Method], first_colour: int) -> tuple[Group, ...]:
        several = len(self.suite.models) > 1
        return tuple(
            Group(
                label=f"{method.label} · {model.name}" if several else method.label,
                runs=tuple(result.run for result in self.of(model.name, method.name) if result.records),
                colour=first_colour + at,
                model=model.name,
                method=method.name,
                description=method.description,
                planned=len(self.of(model.name, method.name)),
            )
            for model in self.suite.models
            for at, method in enumerate(methods)
            if self.of(model.name, method.name)
        )

    @property
    def is_complete(self) -> bool:
        """Every cell is done."""
        return all(result.state is CellState.DONE for result in self.cells)


def read_suite(folder: Path) -> SuiteResults:
    """Read a suite's folder; nothing in it is touched, and processes may be at work there.

    Raises:
        RunError: if the folder is no suite, or a cell's metrics are damaged.
        ConfigError: if its suite is not valid.
        StorageError: if a file cannot be read.
    """
    layout = SuiteLayout(folder)
    if not layout.suite.is_file():
        raise RunError(f"{folder} is no suite folder: it has no {layout.suite.name}", "check the path")
    return read_results(load_suite(layout.suite), folder)


def read_results(suite: Suite, folder: Path) -> SuiteResults:
    """What a folder holds of a suite's cells; nothing if it is not there yet.  Errors as of :func:`read_suite`."""
    return SuiteResults(suite, folder, tuple(read_cell(cell, folder) for cell in suite.cells()))


def read_cell(cell: Cell, root: Path) -> CellResult:
    """What a suite's folder holds of one cell.  Errors as of :func:`read_suite`."""
    folder, failure = cell.folder(root), cell.failure(root)
    records = read_records(folder)
    if len(records) > cell.config.rounds:
        return CellResult(cell, folder, CellState.DONE, records)
    if failure.is_file():
        error = str(read_json(failure, schema_version=FAILURE_SCHEMA)["error"])
        return CellResult(cell, folder, CellState.FAILED, records, error)
    return CellResult(cell, folder, CellState.PARTIAL if is_run(folder) else CellState.MISSING, records)
