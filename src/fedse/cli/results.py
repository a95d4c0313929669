"""A run's result on the screen: success before and after, with intervals, and the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fedse.cli.console import percent, print_table, rate_with_interval, sparkline, stdout

if TYPE_CHECKING:
    from fedse.config import EvaluationConfig
    from fedse.types import RoundRecord, SuccessRate


def show_result(records: Sequence[RoundRecord], settings: EvaluationConfig) -> None:
    """Print success rates on held-out tasks: before the first round, after the last, and after every evaluated one.

    Then warn of updates that came to nothing.

    Args:
        records: the completed rounds, from round 0.
        settings: of the run's evaluation.
    """
    evaluated = [record for record in records if record.evaluation]
    if not evaluated:
        stdout.print("No round has been evaluated yet.")
        return
    counted = "tasks" if settings.episodes_per_task == 1 else "episodes"
    print_table(_rates(evaluated[0], evaluated[-1], evaluated, counted))
    show_errors(evaluated[-1].evaluation)
    show_samples(settings)
    if evaluated[-1].transfer:
        print_table(_transfer(evaluated[-1]))
    for warning in _warnings(records):
        stdout.print(warning, style="yellow", markup=False)


def show_errors(rates: Mapping[str, SuccessRate]) -> None:
    """Say how many episodes were lost to faults, if any were: they are in no rate."""
    for name, rate in rates.items():
        if rate.errors:
            stdout.print(f"{name}: {rate.errors} episodes were lost to faults and are in no rate", style="yellow")


def show_samples(settings: EvaluationConfig) -> None:
    """Say how intervals take the episodes, where a task has several."""
    if settings.episodes_per_task > 1:
        stdout.print(f"{settings.episodes_per_task} episodes of each task; the intervals take them as independent")


def _rates(first: RoundRecord, last: RoundRecord, evaluated: Sequence[RoundRecord], counted: str) -> Table:
    from fedse.evaluation import macro_average, task_weighted_average

    shown = [first] if first is last else [first, last]
    rounds = " and ".join(f"round {record.round}" for record in shown)
    title = f"Success on held-out tasks, {rounds}, with 95 % intervals"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("environment")
    for heading in (*("before", "after")[: len(shown)], counted):
        table.add_column(heading, justify="right")
    table.add_column("by round")
    for name, rate in last.evaluation.items():
        curve = sparkline([record.evaluation[name].rate for record in evaluated])
        found = [rate_with_interval(record.evaluation[name]) for record in shown]
        table.add_row(name, *found, str(rate.episodes), curve)
    if len(last.evaluation) > 1:
        for label, average in (("mean of environments", macro_average), ("mean of tasks", task_weighted_average)):
            curve = sparkline([average(record.evaluation) for record in evaluated])
            table.add_row(label, *(percent(average(record.evaluation)) for record in shown), "", curve)
    return table


def _transfer(record: RoundRecord) -> Table:
    title = f"\nSuccess of each site's adapter in every environment, round {record.round}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("adapter of")
    for label in record.evaluation:
        table.add_column(label, justify="right")
    for owner, rates in record.transfer.items():
        table.add_row(owner, *(percent(rates[label].rate) for label in record.evaluation))
    return table


def _warnings(records: Sequence[RoundRecord]) -> list[str]:
    """One line for every client some of whose updates came to nothing."""
    lost: dict[str, list[tuple[int, str]]] = {}
    for record in records:
        for client, metrics in record.clients.items():
            outcome = metrics.get("outcome", "ok")
            if outcome != "ok":
                cause = metrics.get("train", {}).get("diverged", "")
                lost.setdefault(client, []).append((record.round, f"{outcome}: {cause}" if cause else outcome))
    return [
        f"{client}: {len(found)} of {len(records) - 1} updates came to nothing; in round {found[0][0]}: {found[0][1]}"
        for client, found in lost.items()
    ]
