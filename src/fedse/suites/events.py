"""What a suite at work tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from fedse.progress import Event
from fedse.suites.cells import Cell
from fedse.suites.reading import CellResult


class Step(StrEnum):
    """What has happened to a cell."""

    TAKEN_OVER = "taken over"
    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SuiteEvent:
    """One step of one cell; cells that share a run are told of once, by the one that is its home.

    Attributes:
        step: what has happened.
        cell: to which cell.
        progress: of its run, if that is what has happened.
        result: what its folder holds, once it has ended or was taken over from another suite.
    """

    step: Step
    cell: Cell
    progress: Event | None = None
    result: CellResult | None = None


SuiteListener = Callable[[SuiteEvent], None]


def silent(_: SuiteEvent) -> None:
    """The listener that does nothing."""
