"""A suite's folder as it is: which cells are done, and what they recorded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fedse.errors import RunError
from fedse.runs.folder import SCHEMA_VERSION, read_records
from fedse.runs.layout import RunLayout
from fedse.storage import read_json
from fedse.suites.cells import Cell, SuiteLayout
from fedse.suites.loading import load_suite
from fedse.suites.suite import Suite
from fedse.types import RoundRecord

FAILURE_SCHEMA = 1


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
        cell: the cell.
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

    @property
    def versions(self) -> dict[str, str]:
        """What made its numbers: libraries, platform, arithmetic; empty if the run has not begun.

        Raises:
            StorageError: if the file cannot be read, or is damaged.
        """
        path = RunLayout(self.folder).versions
        found = read_json(path, schema_version=SCHEMA_VERSION) if path.is_file() else {}
        return {name: str(value) for name, value in found.items() if name != "schema_version"}

    @property
    def seconds(self) -> float:
        """Time that the phases of the completed rounds took, also over several processes."""
        return sum(sum(record.seconds.values()) for record in self.records)


@dataclass(frozen=True)
class SuiteResults:
    """A suite and the results so far.

    Attributes:
        suite: the suite.
        folder: its folder.
        cells: one for every cell, in the order of :meth:`Suite.cells`.
    """

    suite: Suite
    folder: Path
    cells: tuple[CellResult, ...]

    def of(self, model: str, method: str) -> tuple[CellResult, ...]:
        """The cells of a method with a model, seed by seed."""
        return tuple(found for found in self.cells if found.cell.is_of(model, method))

    def done(self, model: str, method: str) -> tuple[CellResult, ...]:
        """Those of them that are done."""
        return tuple(found for found in self.of(model, method) if found.state is CellState.DONE)

    @property
    def is_complete(self) -> bool:
        """Every cell is done."""
        return all(found.state is CellState.DONE for found in self.cells)


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
    """What a folder holds of a suite's cells; nothing if it is not there yet.

    Raises:
        RunError, StorageError: see :func:`read_suite`.
    """
    return SuiteResults(suite, folder, tuple(read_cell(cell, folder) for cell in suite.cells()))


def read_cell(cell: Cell, root: Path) -> CellResult:
    """What a suite's folder holds of one cell.

    Raises:
        RunError, StorageError: see :func:`read_suite`.
    """
    folder = cell.folder(root)
    layout = RunLayout(folder)
    records = read_records(layout)
    error = ""
    if len(records) > cell.config.rounds:
        state = CellState.DONE
    elif cell.failure(root).is_file():
        state = CellState.FAILED
        error = str(read_json(cell.failure(root), schema_version=FAILURE_SCHEMA)["error"])
    else:
        state = CellState.PARTIAL if layout.config.is_file() else CellState.MISSING
    return CellResult(cell, folder, state, records, error)
