"""What a suite at work tells, and following it: cells done or running, the time used, an estimate of the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from fedse.progress import Event
from fedse.suites.cells import Cell
from fedse.suites.reading import CellResult, CellState, SuiteResults

_Place = tuple[str, str, int]


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
        progress: of the cell's run, if that is what has happened.
        result: what its folder holds, once it has ended or was taken over from another suite.
    """

    step: Step
    cell: Cell
    progress: Event | None = None
    result: CellResult | None = None


SuiteListener = Callable[[SuiteEvent], None]


@dataclass
class RunningCell:
    """A cell at work.

    Attributes:
        since: when it was started, by the follower's clock.
        event: the last that it told of its progress.
        first_round: the round in which it was when it first did; later than 0 in a cell that goes on.
    """

    cell: Cell
    since: float
    event: Event | None = None
    first_round: int = 0


class SuiteProgress:
    """A suite's listener that keeps what there is to know of it.

    It may be asked by one thread while another tells it of an event.

    Args:
        results: the suite as it was before the work.
        clock: seconds from any beginning.
    """

    def __init__(self, results: SuiteResults, clock: Callable[[], float] = time.monotonic) -> None:
        self.suite = results.suite
        self.running: dict[_Place, RunningCell] = {}
        self._results = {_place(found.cell): _to_do(found) for found in results.cells}
        self._clock = clock
        self._began = clock()
        self._took = {_place(found.cell): found.seconds for found in self._runs() if found.state is CellState.DONE}
        self._width = 1

    def __call__(self, event: SuiteEvent) -> None:
        """See :data:`SuiteListener`."""
        place = _place(event.cell)
        if event.step is Step.STARTED:
            self.running[place] = RunningCell(event.cell, self._clock())
            self._width = max(self._width, len(self.running))
        elif event.progress is not None:
            found = self.running[place]
            if found.event is None:
                found.first_round = event.progress.round
            found.event = event.progress
        elif event.result is not None:
            running = self.running.pop(place, None)  # none where the run was taken over
            took = self._clock() - running.since if running else 0.0
            if event.step is not Step.FAILED:
                self._took[place] = max(took, event.result.seconds)  # part of it may have been done before
            self._results[place] = event.result

    def results(self, model: str, method: str) -> list[CellResult]:
        """The cells of a method with a model; those that share their runs with another method have its results."""
        cells = [found.cell for found in tuple(self._results.values()) if found.cell.is_of(model, method)]
        return [self._results[model, cell.home, cell.seed] for cell in cells]

    @property
    def done(self) -> int:
        """Runs that are complete."""
        return sum(found.state is CellState.DONE for found in self._runs())

    @property
    def failed(self) -> int:
        """Runs that have failed since the work began."""
        return sum(found.state is CellState.FAILED for found in self._runs())

    @property
    def total(self) -> int:
        """Runs that the suite has."""
        return len(self._runs())

    @property
    def seconds(self) -> float:
        """Time since the work began."""
        return self._clock() - self._began

    def remaining(self) -> float:
        """An estimate of the seconds that are left; NaN while there is nothing to go by.

        A cell is taken to last as its completed rounds say, else as long as other seeds of its method, else as other
        methods of its model, on average.
        """
        ended = (CellState.DONE, CellState.FAILED)
        left = [self._left(found.cell) for found in self._runs() if found.state not in ended]
        if any(map(math.isnan, left)):
            return math.nan
        return max(sum(left) / self._width, *left) if left else 0.0

    def _left(self, cell: Cell) -> float:
        running = self.running.get(_place(cell))
        if running is None:
            return self._whole(cell)
        whole = self._per_round(running) * (cell.config.rounds + 1 - running.first_round)
        if math.isnan(whole):
            whole = self._whole(cell)
        return max(whole - (self._clock() - running.since), 0.0)  # in this order NaN stays NaN

    def _whole(self, cell: Cell) -> float:
        """How long a cell takes from its beginning to its end, in seconds."""
        took, mine = tuple(self._took.items()), (cell.model, cell.method)
        same = [seconds for place, seconds in took if place[:2] == mine]
        paces = [self._per_round(running) for place, running in tuple(self.running.items()) if place[:2] == mine]
        going = [pace * (cell.config.rounds + 1) for pace in paces if not math.isnan(pace)]
        others = [seconds for place, seconds in took if place[0] == cell.model]
        known = same or going or others
        return sum(known) / len(known) if known else math.nan

    def _per_round(self, running: RunningCell) -> float:
        """Seconds for each round, round 0 included, that a running cell has completed since it was started."""
        rounds = running.event.round - running.first_round if running.event else 0
        return (self._clock() - running.since) / rounds if rounds > 0 else math.nan

    def _runs(self) -> list[CellResult]:
        return [found for found in tuple(self._results.values()) if not found.cell.is_shared]


def _place(cell: Cell) -> _Place:
    return cell.model, cell.method, cell.seed


def _to_do(found: CellResult) -> CellResult:
    """What has failed before is tried again."""
    return replace(found, state=CellState.PARTIAL, error="") if found.state is CellState.FAILED else found
