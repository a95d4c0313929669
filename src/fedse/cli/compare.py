"""``fedse compare`` and ``fedse power``: whether two methods differ, and how many tasks it takes to tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Argument, Option

from fedse.cli.console import examples, say, show_table
from fedse.errors import ConfigError
from fedse.results.formatting import percent, points
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.evaluation.bootstrap import Contrast
    from fedse.evaluation.comparison import Comparison
    from fedse.results.held_out import HeldOut, PairedRuns

EXAMPLES = examples(
    "fedse compare runs/fed-se-seed* against runs/fedit-seed*",
    "fedse compare runs/fed-se-seed0 against runs/alone-maze-seed0 runs/alone-wordle-seed0",
)
POWER_EXAMPLES = examples("fedse power 5", "fedse power 10 --rate 65 --discordance 20")

_SEPARATOR = "against"
_RATES = (50.0, 65.0, 70.0, 80.0)
_DISCORDANCES = (10.0, 15.0, 20.0, 30.0)


def compare(
    runs: Annotated[
        list[Path],
        Argument(
            metavar="RUN... against RUN...",
            help="Finished runs of method A, one per training seed, the word against, and those of method B.",
        ),
    ],
) -> None:
    """Compare two methods on the held-out tasks of their runs' last rounds.

    Shows success rates, paired bootstrap intervals of the differences (95 %), and exact tests per
    environment, adjusted by Holm's method.  Runs whose held-out tasks, limits of an episode or
    decoding differ are refused.
    """
    from fedse.evaluation.comparison import compare as compare_outcomes
    from fedse.results.held_out import pair_runs, read_held_out

    sides = [[read_held_out(folder) for folder in side] for side in _sides(runs)]
    paired = pair_runs(*sides)
    _show(sides, paired, compare_outcomes(paired.a, paired.b))


def power(
    gain: Annotated[float, Argument(help="The difference to find, in percentage points.")],
    rate: Annotated[
        float | None, Option(min=0, max=100, help="Success of the weaker method, in %.", show_default="several")
    ] = None,
    discordance: Annotated[
        float | None, Option(min=0, max=100, help="Tasks that only one method solves, in %.", show_default="several")
    ] = None,
    alpha: Annotated[float, Option(help="Two-sided level of the test.")] = 0.05,
    power: Annotated[float, Option(help="Chance of finding the difference.")] = 0.8,
) -> None:
    """Tell how many tasks it takes to find a difference between two methods.

    Paired: both play the same tasks, and what counts is how many of them only one solves.
    Unpaired: each plays as many tasks of its own.
    """
    from fedse.evaluation.power import tasks_needed_paired, tasks_needed_unpaired

    if not 0 < gain <= 100:
        raise ConfigError(f"a difference of {gain:g} points cannot be", "name one above 0 and up to 100")
    difference = gain / 100
    shares = [share for share in _DISCORDANCES if share >= gain] if discordance is None else [discordance]
    rates = [start for start in _RATES if start + gain <= 100] if rate is None else [rate]
    if not (shares or rates):
        what = f"no usual design shows a difference of {gain:g} points"
        raise ConfigError(what, "name one: --rate, --discordance or both")
    paired = {share: tasks_needed_paired(share / 100, difference, alpha=alpha, power=power) for share in shares}
    unpaired = {start: tasks_needed_unpaired(start / 100, difference, alpha=alpha, power=power) for start in rates}
    rows = [(f"paired, {share:g} % of tasks solved by one method only", str(tasks)) for share, tasks in paired.items()]
    rows += [(f"unpaired, from {at:g} % to {at + gain:g} %", f"2 × {tasks}") for at, tasks in unpaired.items()]
    show_table(("design", "tasks"), rows, title=f"Tasks that show a difference of {gain:g} points")


def _sides(words: list[Path]) -> list[list[Path]]:
    texts = [str(word) for word in words]
    sides = [words[: texts.index(_SEPARATOR)], words[texts.index(_SEPARATOR) + 1 :]] if _SEPARATOR in texts else []
    if texts.count(_SEPARATOR) != 1 or not all(sides):
        what = "two methods are compared, with the word 'against' between their runs"
        raise ConfigError(what, "fedse compare runs/fed-se-seed* against runs/fedit-seed*")
    return sides


def _show(sides: Sequence[Sequence[HeldOut]], paired: PairedRuns, comparison: Comparison) -> None:
    from fedse.evaluation.rates import MEANS

    labels = [", ".join(dict.fromkeys(run.config.name for run in runs)) for runs in sides]
    if len(set(labels)) < len(labels):  # as of runs that differ in a setting, but have one name
        labels = [f"{label} ({', '.join(run.name for run in runs)})" for label, runs in zip(labels, sides, strict=True)]
    for letter, label, runs in zip("AB", labels, sides, strict=True):
        say(f"{letter}: {label}, round {runs[0].config.rounds}")
    seeds = ", ".join(str(seed) for seed in paired.seeds)
    say(f"training seed{'s' if len(paired.seeds) > 1 else ''} {seeds}\n")
    rows: list[Sequence[str | Text]] = []
    for name, row in comparison.environments.items():
        pairs = (f"{row.better}/{row.worse}", f"{100 * row.discordance:.0f} %")
        rows.append((name, *_cells(row.rates), *pairs, _p(row.p), _p(row.p_holm), str(row.tasks)))
    (macro, _), (weighted, _) = MEANS
    rows += [
        [Text(cell, style="bold") for cell in (macro, *_cells(comparison.macro))],
        (weighted, *_cells(comparison.task_weighted)),
        ("interquartile mean", *_cells(comparison.iqm)),
    ]
    numbers = ("A", "B", "A − B [95 %]", "better/worse", "discordant", "p", "p (Holm)", "tasks")
    show_table(("environment", *numbers), rows)
    for name, count in paired.dropped.items():
        if count:
            say(f"{name}: {counted(count, 'task')} lost episodes to faults; left out", style="yellow")
    if comparison.seeds == 1:
        say("\nOne training seed: the intervals cover the choice of tasks, not the training.", style="yellow")


def _cells(contrast: Contrast) -> tuple[str, str, str]:
    return percent(contrast.a.value, 1), percent(contrast.b.value, 1), points(contrast.difference)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
