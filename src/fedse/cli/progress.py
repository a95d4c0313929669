"""Listeners that show a run's progress: a live bar on a terminal, one line per finished phase elsewhere.

What holds the work up has a line of its own in both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fedse.cli.console import stderr
from fedse.progress import Event, Listener, Phase, silent
from fedse.results.formatting import duration, percent

_ROLLOUTS = frozenset({Phase.EXPLORE, Phase.EVALUATE})
#: The same trouble is told again after so long.
_TROUBLE_SECONDS = 300.0
_UNITS = {
    Phase.DEMONSTRATE: "demonstrations",
    Phase.EXPLORE: "episodes",
    Phase.TRAIN: "steps",
    Phase.AGGREGATE: "updates",
    Phase.EVALUATE: "episodes",
}


@contextmanager
def shown(rounds: int, *, quiet: bool, console: Console = stderr) -> Iterator[Listener]:
    """The listener that fits where the output goes; whatever it draws is cleared when the block ends.

    ``rounds`` is how many rounds the run has; 0 outside a run.
    """
    told: dict[str, float] = {}

    def line(event: Event) -> None:
        if event.finished:
            console.print(phase_line(event, rounds), markup=False)
        now = time.monotonic()
        if event.trouble and now - told.get(event.trouble, -math.inf) >= _TROUBLE_SECONDS:
            told[event.trouble] = now
            console.print(f"{event.client or 'server':<16} {event.phase.value:<11} {event.trouble}", markup=False)

    if quiet:
        yield silent
    elif console.is_terminal:
        columns = (TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
        with Progress(*columns, console=console, transient=True) as bar:
            yield _LiveListener(rounds, bar, line)
    else:
        yield line


def phase_line(event: Event, rounds: int) -> str:
    """A finished phase in one line."""
    who = f"{event.client or 'server':<16} {event.phase.value:<11} {_amount(event)}"
    where = [f"{_round(event, rounds):<12}"] if rounds else []
    played = event.done - event.errors
    share = f" ({percent(event.successes / played if played else math.nan)})" if event.done else ""
    return "  ".join(
        part for part in (*where, who, *_figures(event, share), duration(event.seconds), event.note) if part
    )


class _LiveListener:
    """Keeps one bar for each phase at work below the lines of the finished ones; workers do several at a time."""

    def __init__(self, rounds: int, bar: Progress, line: Listener) -> None:
        self._rounds = rounds
        self._bar = bar
        self._line = line
        self._started = time.monotonic()
        self._tasks: dict[tuple[Phase, str, str], TaskID] = {}

    def __call__(self, event: Event) -> None:
        visitor = event.note if event.phase is Phase.EVALUATE else ""  # its adapters play side by side
        phase = (event.phase, event.client, visitor)
        if event.finished:
            if phase in self._tasks:
                self._bar.remove_task(self._tasks.pop(phase))
            self._line(event)
            return
        if event.trouble:
            self._line(event)
        if phase not in self._tasks:
            title = f"{_round(event, self._rounds)} {event.client or 'server'} {event.phase.value}".lstrip()
            self._tasks[phase] = self._bar.add_task(title, total=event.total or None, detail="")
        self._bar.update(
            self._tasks[phase], completed=event.done, total=event.total or None, detail=self._detail(event)
        )

    def _detail(self, event: Event) -> str:
        left = event.seconds / event.done * (event.total - event.done) if event.done else math.nan
        times = [] if math.isnan(left) else [f"{duration(left)} left"]
        times.append(f"{duration(time.monotonic() - self._started)} in all")
        return " · ".join(part for part in (_amount(event), *_figures(event), *times) if part)


def _figures(event: Event, share: str = "") -> Iterator[str]:
    """How a phase goes: successes and faults, loss, speed."""
    if event.phase in _ROLLOUTS and (event.done or not event.finished):
        yield f"{event.successes} succeeded{share}"
        if event.errors:
            yield f"{event.errors} lost to faults"
    if not math.isnan(event.loss):
        yield f"loss {event.loss:.3f}"
    if event.tokens and event.seconds:
        yield f"{event.tokens / event.seconds:,.0f} tokens/s"


def _round(event: Event, rounds: int) -> str:
    return "" if not rounds else f"round {event.round}/{rounds}" if event.round else "at the start"


def _amount(event: Event) -> str:
    return f"{event.done}/{event.total} {_UNITS[event.phase]}" if event.total else ""
