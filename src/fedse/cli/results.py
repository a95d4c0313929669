"""A run's result on the screen: success before and after, with intervals, and the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import fedse
from fedse.cli.console import say, show_table
from fedse.results.formatting import percent, rate_with_interval, sparkline

if TYPE_CHECKING:
    from fedse.config import EvaluationConfig
    from fedse.types import RoundRecord

_BY_ROUND = "by round"


def show_result(records: Sequence[RoundRecord], settings: EvaluationConfig) -> None:
    """Print success rates on held-out tasks: before the first round, after the last, and after every evaluated one.

    Then warn of updates that came to nothing.  The records are those of the completed rounds, from round 0.
    """
    evaluated = [record for record in records if record.evaluation]
    if not evaluated:
        say("No round has been evaluated yet.")
        return
    shown = list({record.round: record for record in (evaluated[0], evaluated[-1])}.values())
    rounds = " and ".join(f"round {record.round}" for record in shown)
    show_rates(
        dict(zip(("before", "after"), (record.evaluation for record in shown), strict=False)),
        title=f"Success on held-out tasks, {rounds}, with 95 % intervals",
        counted="tasks" if settings.episodes_per_task == 1 else "episodes",
        course=[record.evaluation for record in evaluated],
    )
    show_samples(settings)
    if evaluated[-1].transfer:
        _show_transfer(evaluated[-1])
    for warning in _warnings(records):
        say(warning, style="yellow")


def show_rates(
    columns: Mapping[str, Mapping[str, fedse.SuccessRate]],
    *,
    title: str,
    counted: str = "episodes",
    course: Sequence[Mapping[str, fedse.SuccessRate]] = (),
) -> None:
    """Print success rates in every environment, their means, and how many episodes were lost to faults.

    Args:
        columns: heading → environment → success rate; that of the last column is the one that counts.
        title: of the table.
        counted: what the number of episodes is called.
        course: the rates round by round, shown as a curve if there are any.
    """
    from fedse.evaluation.rates import MEANS

    last = list(columns.values())[-1]
    rows = [
        [
            name,
            *(rate_with_interval(column[name]) for column in columns.values()),
            str(rate.episodes),
            sparkline([rates[name].rate for rates in course]),
        ]
        for name, rate in last.items()
    ]
    if len(last) > 1:
        rows += [
            [label, *(percent(mean(column)) for column in columns.values()), "", sparkline([*map(mean, course)])]
            for label, mean in MEANS
        ]
    headings = ["environment", *columns, counted, *([_BY_ROUND] if course else [])]
    show_table(headings, [row[: len(headings)] for row in rows], title=title, texts=[_BY_ROUND])
    for name, rate in last.items():
        if rate.errors:
            say(f"{name}: {rate.errors} episodes were lost to faults and are in no rate", style="yellow")


def show_samples(settings: EvaluationConfig) -> None:
    """Say how intervals take the episodes, where a task has several."""
    if settings.episodes_per_task > 1:
        say(f"{settings.episodes_per_task} episodes of each task; the intervals take them as independent")


def _show_transfer(record: RoundRecord) -> None:
    title = f"\nSuccess of each site's adapter in every environment, round {record.round}"
    labels = list(record.evaluation)
    rows = [(owner, *(percent(rates[label].rate) for label in labels)) for owner, rates in record.transfer.items()]
    show_table(("adapter of", *labels), rows, title=title)


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
        f"{client}: {len(losses)} of {len(records) - 1} updates came to nothing; in round {first}: {why}"
        for client, losses in lost.items()
        for first, why in losses[:1]
    ]
