"""A run's result on the screen: success before and after, with intervals, and the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fedse.cli.console import percent, rate_with_interval, sparkline, stdout

if TYPE_CHECKING:
    from fedse.types import RoundRecord, SuccessRate


def show_result(records: Sequence[RoundRecord]) -> None:
    """Print success rates on held-out tasks: before the first round, after the last, and after every evaluated one.

    Args:
        records: the completed rounds, from round 0.
    """
    from fedse.evaluation import macro_average, task_weighted_average

    evaluated = [record for record in records if record.evaluation]
    if not evaluated:
        stdout.print("No round has been evaluated yet.")
        return
    first, last = evaluated[0], evaluated[-1]
    table = Table(title=_title(first, last), title_justify="left", box=None, pad_edge=False)
    table.add_column("environment")
    for heading in ("before", "after", "tasks"):
        table.add_column(heading, justify="right")
    table.add_column("by round")
    for name, rate in last.evaluation.items():
        curve = sparkline([record.evaluation[name].rate for record in evaluated])
        table.add_row(
            name, rate_with_interval(first.evaluation[name]), rate_with_interval(rate), str(rate.episodes), curve
        )
    if len(last.evaluation) > 1:
        for label, average in (("mean of environments", macro_average), ("mean of tasks", task_weighted_average)):
            curve = sparkline([average(record.evaluation) for record in evaluated])
            table.add_row(label, percent(average(first.evaluation)), percent(average(last.evaluation)), "", curve)
    stdout.print(table)
    show_errors(last.evaluation)


def show_errors(rates: Mapping[str, SuccessRate]) -> None:
    """Say how many episodes were lost to faults, if any were: they are in no rate."""
    for name, rate in rates.items():
        if rate.errors:
            stdout.print(f"{name}: {rate.errors} episodes were lost to faults and are in no rate", style="yellow")


def _title(first: RoundRecord, last: RoundRecord) -> str:
    return f"Success on held-out tasks, round {first.round} and round {last.round}, with 95 % intervals"
