"""Results on the screen: success before and after, with intervals, and the way there; ``fedse ls`` lists all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Argument

import fedse
from fedse.cli.console import examples, say, show_table
from fedse.errors import FedseError, RunError
from fedse.results.formatting import NONE, percent, rate_with_interval, sparkline
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.config import EvaluationConfig
    from fedse.types import RoundRecord

EXAMPLES = examples("fedse ls", "fedse ls /data/runs", "fedse ls results/nano")
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
        unit="tasks" if settings.episodes_per_task == 1 else "episodes",
        course=[record.evaluation for record in evaluated],
    )
    show_samples(settings)
    if evaluated[-1].transfer:
        _show_transfer(evaluated[-1])
    _warn_of_lost_updates(records)


def show_rates(
    columns: Mapping[str, Mapping[str, fedse.SuccessRate]],
    *,
    title: str,
    unit: str = "episodes",
    course: Sequence[Mapping[str, fedse.SuccessRate]] = (),
) -> None:
    """Print success rates in every environment, their means, and how many episodes were lost to faults.

    Args:
        columns: heading → environment → success rate; episodes and faults are those of the last column.
        title: of the table.
        unit: what the number of episodes is called.
        course: the rates round by round, shown as a curve if there are any.  An environment may lack in some of them.
    """
    from fedse.evaluation.rates import MEANS, rate_of

    last = list(columns.values())[-1]
    unknown = rate_of(0, 0)  # its site was away
    names = dict.fromkeys(name for column in (*columns.values(), *course) for name in column)
    rows = []
    for name in names:
        rates = map(rate_with_interval, (column.get(name) for column in columns.values()))
        curve = sparkline([past.get(name, unknown).rate for past in course])
        rows.append([name, *rates, str(last.get(name, unknown).episodes), curve])
    if len(names) > 1:
        for label, mean in MEANS:
            # A mean over fewer environments would look like a rise or a fall.
            means, past = (
                [mean(column) if column.keys() == names.keys() else unknown.rate for column in some]
                for some in (columns.values(), course)
            )
            rows.append([label, *map(percent, means), "", sparkline(past)])
    headings = ["environment", *columns, unit, *([_BY_ROUND] if course else [])]
    show_table(headings, [row[: len(headings)] for row in rows], title=title, texts=[_BY_ROUND])
    for name, rate in last.items():
        if rate.errors:
            say(f"{name}: {counted(rate.errors, 'episode')} lost to faults, and in no rate", style="yellow")


def show_samples(settings: EvaluationConfig) -> None:
    """Say how intervals take the episodes, where a task has several."""
    if settings.episodes_per_task > 1:
        say(f"{settings.episodes_per_task} episodes of each task; the intervals take them as independent")


def _show_transfer(record: RoundRecord) -> None:
    from fedse.runs.rounds import GLOBAL, owner_label

    whose = "the global adapter alone" if GLOBAL in record.transfer else "each site's adapter"
    title = f"\nSuccess of {whose} in every environment, round {record.round}"
    labels = list(record.evaluation)
    rows = [
        (owner_label(owner), *(percent(rates[label].rate) if label in rates else NONE for label in labels))
        for owner, rates in record.transfer.items()
    ]
    show_table(("adapter of", *labels), rows, title=title)


def _warn_of_lost_updates(records: Sequence[RoundRecord]) -> None:
    """One line for every client some of whose updates came to nothing."""
    lost: dict[str, list[str]] = {}
    for record in records:
        for client, metrics in record.clients.items():
            if (outcome := metrics.get("outcome", "ok")) != "ok":
                cause = metrics.get("train", {}).get("diverged", "")
                lost.setdefault(client, []).append(f"in round {record.round}: {outcome}{cause and f': {cause}'}")
    for client, losses in lost.items():
        say(
            f"{client}: {len(losses)} of {counted(len(records) - 1, 'update')} came to nothing; {losses[0]}",
            style="yellow",
        )


def ls(
    folder: Annotated[
        Path, Argument(metavar="[DIR]", help="A folder of runs, of a suite or of several suites, or a run's own.")
    ] = Path("runs"),
) -> None:
    """List run folders: rounds done, and success on held-out tasks before and after (mean of environments)."""
    from fedse.results.reading import runs_below

    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}", "name the folder that holds your runs, or begin one: fedse run")
    folders = runs_below(folder)
    if not folders:
        say(f"{folder} holds no runs; fedse run begins one")
        return
    rows: list[list[str | Text]] = []
    for path in folders:
        try:
            rows.append([str(path), *_cells(path)])
        except FedseError as error:  # one damaged folder must not hide the others
            rows.append([str(path), Text(error.what, style="red"), "", "", "", ""])
    headings = ("run", "rounds", "environments", "before", "after", _BY_ROUND)
    show_table(headings, rows, texts=("rounds", "environments", _BY_ROUND))


def _cells(folder: Path) -> list[str]:
    from fedse.evaluation import macro_average
    from fedse.results.reading import run_at

    run = run_at(folder)
    environments = ", ".join(dict.fromkeys(client.environment for client in run.config.clients))
    done = f"{run.rounds_done}/{run.config.rounds}"
    averages = [macro_average(record.evaluation) for record in run.records if record.evaluation]
    if not averages:
        return [done, environments, NONE, NONE, ""]
    return [done, environments, percent(averages[0]), percent(averages[-1]), sparkline(averages)]
