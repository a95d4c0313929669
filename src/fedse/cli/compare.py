"""``fedse compare`` and ``fedse power``: whether two methods differ, and how many tasks it takes to tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedse.cli.console import examples, print_table, stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedse.evaluation.bootstrap import Contrast, Estimate
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
        typer.Argument(
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
    gain: Annotated[float, typer.Argument(help="The difference to find, in percentage points.")],
    rate: Annotated[
        float | None, typer.Option(min=0, max=100, help="Success of the weaker method, in %.", show_default="several")
    ] = None,
    discordance: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Tasks that only one method solves, in %.", show_default="several"),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Two-sided level of the test.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance of finding the difference.")] = 0.8,
) -> None:
    """Tell how many tasks it takes to find a difference between two methods.

    Paired: both play the same tasks, and what counts is how many of them only one solves.
    Unpaired: each plays as many tasks of its own.
    """
    from fedse.errors import ConfigError
    from fedse.evaluation.power import tasks_needed_paired, tasks_needed_unpaired

    if not 0 < gain <= 100:
        raise ConfigError(f"a difference of {gain:g} points cannot be", "name one above 0 and up to 100")
    points = gain / 100
    shares = [share for share in _DISCORDANCES if share >= gain] if discordance is None else [discordance]
    rates = [start for start in _RATES if start + gain <= 100] if rate is None else [rate]
    if not (shares or rates):
        raise ConfigError(
            f"no usual design shows a difference of {gain:g} points", "name one: --rate, --discordance or both"
        )
    table = Table(title=f"Tasks that show a difference of {gain:g} points", title_justify="left", box=None)
    table.add_column("design")
    table.add_column("tasks", justify="right")
    for share in shares:
        needed = tasks_needed_paired(share / 100, points, alpha=alpha, power=power)
        table.add_row(f"paired, {share:g} % of tasks solved by one method only", str(needed))
    for start in rates:
        needed = tasks_needed_unpaired(start / 100, points, alpha=alpha, power=power)
        table.add_row(f"unpaired, from {start:g} % to {start + gain:g} %", f"2 × {needed}")
    print_table(table)


def _sides(words: list[Path]) -> list[list[Path]]:
    from fedse.errors import ConfigError

    texts = [str(word) for word in words]
    sides = [words[: texts.index(_SEPARATOR)], words[texts.index(_SEPARATOR) + 1 :]] if _SEPARATOR in texts else []
    if texts.count(_SEPARATOR) != 1 or not all(sides):
        raise ConfigError(
            "two methods are compared, with the word 'against' between their runs",
            "fedse compare runs/fed-se-seed* against runs/fedit-seed*",
        )
    return sides


def _show(sides: Sequence[Sequence[HeldOut]], paired: PairedRuns, found: Comparison) -> None:
    for letter, runs in zip("AB", sides, strict=True):
        names = ", ".join(dict.fromkeys(run.config.name for run in runs))
        stdout.print(f"{letter}: {names}, round {runs[0].config.rounds}", markup=False)
    seeds = ", ".join(str(seed) for seed in paired.seeds)
    stdout.print(f"training seed{'s' if len(paired.seeds) > 1 else ''} {seeds}\n", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("environment")
    for heading in ("A", "B", "A − B [95 %]", "better/worse", "discordant", "p", "p (Holm)", "tasks"):
        table.add_column(heading, justify="right")
    for name, row in found.environments.items():
        table.add_row(
            name,
            *_cells(row.rates),
            f"{row.better}/{row.worse}",
            f"{100 * row.discordance:.0f} %",
            _p(row.p),
            _p(row.p_holm),
            str(row.tasks),
        )
    table.add_row("mean of environments", *_cells(found.macro), style="bold")
    table.add_row("mean of tasks", *_cells(found.task_weighted))
    table.add_row("interquartile mean", *_cells(found.iqm))
    print_table(table)
    for name, count in paired.dropped.items():
        if count:
            stdout.print(f"{name}: {count} tasks lost episodes to faults and are left out", style="yellow")
    if found.seeds == 1:
        stdout.print("\nOne training seed: the intervals cover the choice of tasks, not the training.", style="yellow")


def _cells(contrast: Contrast) -> tuple[str, str, str]:
    return f"{100 * contrast.a.value:.1f} %", f"{100 * contrast.b.value:.1f} %", _points(contrast.difference)


def _points(difference: Estimate) -> str:
    value, low, high = (100 * bound for bound in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
