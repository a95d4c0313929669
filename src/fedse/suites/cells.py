"""The cells of a suite, and where things lie in its folder.

suite.yaml                                   the resolved suite; runs the same suite again
suite.lock                                   held by the process that works in the folder
cells/<model>/<method>/seed-<n>/             a run folder, see :mod:`fedse.runs.layout`
cells/<model>/<method>/seed-<n>.failure.json what went wrong, until the cell is tried again
table.md, table.csv                          the results so far
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedse.config import RunConfig
from fedse.runs.folder import is_at_work

FAILURE_SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """One run of a suite: a method with a model and a training seed.

    Attributes:
        config: what is run; its name is the method's.
        home: the method whose folder holds the run: this one, or the first of the suite with the same configuration.
    """

    model: str
    method: str
    seed: int
    config: RunConfig
    home: str

    @property
    def is_shared(self) -> bool:
        """Another method of the suite has the same configuration, and its run serves for both."""
        return self.home != self.method

    def is_of(self, model: str, method: str) -> bool:
        """Whether it is one of the seeds of a method with a model."""
        return (self.model, self.method) == (model, method)

    def folder(self, root: Path) -> Path:
        """The cell's run folder."""
        return root / "cells" / self.model / self.home / f"seed-{self.seed}"

    def failure(self, root: Path) -> Path:
        """Where it is written down why the cell failed; beside the run folder, which holds nothing but the run."""
        folder = self.folder(root)
        return folder.with_name(f"{folder.name}.failure.json")

    def __str__(self) -> str:
        return f"{self.model}/{self.method}/seed-{self.seed}"


def siblings(cell: Cell, cells: Iterable[Cell], root: Path) -> list[Path]:
    """The run folders of the other cells with a cell's model and seed: they play the same held-out tasks at first."""
    alike = (other for other in cells if (other.model, other.seed) == (cell.model, cell.seed))
    folders = dict.fromkeys(other.folder(root) for other in alike)
    return [folder for folder in folders if folder != cell.folder(root)]


class SuiteLayout:
    """Paths below a suite's folder; nothing is created by asking for one.

    Attributes:
        suite: the resolved suite.
        lock: held by the process that works in the folder.
        markdown, csv: the table to read, and the one to compute with.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.suite = root / "suite.yaml"
        self.lock = root / "suite.lock"
        self.markdown = root / "table.md"
        self.csv = root / "table.csv"

    @property
    def is_at_work(self) -> bool:
        """A process works on the suite now; see :func:`fedse.runs.folder.is_at_work`."""
        return is_at_work(self.lock)
