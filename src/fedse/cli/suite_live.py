"""A suite at work on the screen: a table that fills on a terminal, one line per event elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedse.cli.console import made_table, stderr
from fedse.results.formatting import duration, percent
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.settings import Method
    from fedse.suites import SuiteResults
    from fedse.suites.progress import RunningCell, SuiteEvent, SuiteListener, SuiteProgress


@contextmanager
def shown(results: SuiteResults, *, quiet: bool, console: Console = stderr) -> Iterator[SuiteListener]:
    """The listener that fits where the output goes; the results are those before the work."""
    from fedse.suites.progress import SuiteProgress

    progress = SuiteProgress(results)
    if quiet:
        yield progress
    elif console.is_terminal:
        draw = partial(live_table, progress)
        with Live(get_renderable=draw, console=console, transient=True, refresh_per_second=2):
            yield progress
    else:

        def listener(event: SuiteEvent) -> None:
            progress(event)
            if event.progress is None:
                console.print(event_line(event, progress), markup=False)

        yield listener


def live_table(progress: SuiteProgress) -> Table:
    """The suite as it is: methods in rows, environments in columns, and what each running cell is doing."""
    suite = progress.suite
    environments = suite.environments()
    rows: list[list[str | Text]] = []
    for model in suite.models:
        if len(suite.models) > 1:
            rows.append([Text(model.name, style="bold")])
        for method in suite.all_methods:
            if not progress.results(model.name, method.name):
                continue
            style = "dim" if method in suite.ablations else ""
            rows.append([Text(cell, style) for cell in _row(progress, model.name, method, environments)])
    table = made_table(["method", "seeds", *environments, "mean", "at work"], rows, texts=["at work"])
    table.columns[0].no_wrap = True
    table.caption, table.caption_justify = _summary(progress), "left"
    return table


def event_line(event: SuiteEvent, progress: SuiteProgress) -> str:
    """A cell's beginning or end in one line."""
    from fedse.evaluation import macro_average

    said = f"{event.cell}: {event.step.value}"
    if event.result is not None and event.result.error:
        said += f": {event.result.error}"
    elif event.result is not None:
        said += f", mean of environments {percent(macro_average(event.result.records[-1].evaluation))}"
    return f"{said}  ({_summary(progress)})"


def _row(progress: SuiteProgress, model: str, method: Method, environments: Sequence[str]) -> list[str]:
    from fedse.evaluation import macro_average, pooled
    from fedse.suites import CellState

    results = progress.results(model, method.name)
    evaluations = [result.records[-1].evaluation for result in results if result.state is CellState.DONE]
    rates = [pooled(rates[name] for rates in evaluations if name in rates) for name in environments]
    means = [macro_average(rates) for rates in evaluations]
    at_work = [running for running in tuple(progress.running.values()) if running.cell.is_of(model, method.name)]
    failed = [f"seed {cell.cell.seed}: failed, {cell.error.partition(chr(10))[0]}" for cell in results if cell.error]
    return [
        method.label,
        f"{len(evaluations)}/{len(results)}",
        *(percent(rate.rate) for rate in rates),
        percent(math.fsum(means) / len(means) if means else math.nan),
        "; ".join([*map(_at_work, at_work), *failed]),
    ]


def _at_work(running: RunningCell) -> str:
    where = f"seed {running.cell.seed}"
    event = running.event
    if event is None:
        return f"{where}: starting"
    amount = f" {event.done}/{event.total}" if event.total else ""
    site = f" {event.client}" if event.client else ""
    return f"{where}: round {event.round}/{running.cell.config.rounds}{site} {event.phase.value}{amount}"


def _summary(progress: SuiteProgress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    left = progress.remaining()
    rest = "" if math.isnan(left) else f", about {duration(left)} left"
    return f"{progress.done} of {counted(progress.total, 'run')} done{failed}, {duration(progress.seconds)} used{rest}"
