"""``fedse diagnose``: what happened between the sites of a run, round by round."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedse.cli.console import examples, percent, print_table, rate_with_interval, size, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedse.diagnostics.rounds import RoundDiagnostics
    from fedse.types import SuccessRate

EXAMPLES = examples(
    "fedse diagnose runs/quickstart-seed0",
    "fedse diagnose runs/quickstart-seed0 --csv rounds.csv",
    "fedse diagnose runs/quickstart-seed0 --transfer --tasks 20",
)


def diagnose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; the run may still be under way.")],
    csv: Annotated[
        Path | None, typer.Option(help="Write every figure to this file: round, client, other, metric, value.")
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Also play each client's last update in every environment.")
    ] = False,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Tasks per environment of --transfer.", show_default="as in the run")
    ] = None,
) -> None:
    """Show drift and conflict of the updates, aggregation error, experience and traffic by round."""
    from fedse.diagnostics.rounds import diagnose as diagnose_run
    from fedse.errors import ConfigError, RunError

    if tasks is not None and not transfer:
        raise ConfigError("--tasks has no effect without --transfer", "add --transfer, or leave it out")
    rounds = diagnose_run(run)
    if not rounds:
        raise RunError(
            f"{run} has no complete round yet",
            f"fedse run --resume --out {run} goes on with it, unless it is to have none (rounds: 0)",
        )
    if csv is not None:
        from fedse.diagnostics.records import as_csv
        from fedse.storage import atomic_write

        atomic_write(csv, as_csv(rounds))
    if any(found.clients for found in rounds):
        _show_updates(rounds)
    else:
        stdout.print("The sites of this run exchange no adapters: there are no updates to compare.\n")
    _show_experience(rounds)
    _show_lengths(rounds[-1])
    if transfer:
        _show_transfer(run, tasks)


def _show_updates(rounds: Sequence[RoundDiagnostics]) -> None:
    from fedse.adapters.algebra import random_sign_agreement

    table = Table(title="Updates of the clients", title_justify="left", box=None, pad_edge=False)
    table.add_column("round", justify="right")
    headings = ("cosine A", "cosine B", "cosine BA", "lowest BA", "signs A", "signs B", "κ", "h", "ζ² (proxy)")
    for heading in (*headings, "error", "up", "down"):
        table.add_column(heading, justify="right")
    for found in rounds:
        a, b, product, both = (found.conflicts[part] for part in ("A", "B", "BA", "AB"))
        figures = (a.mean_cosine, b.mean_cosine, product.mean_cosine, product.lowest_cosine)
        agreements = (found.sign_agreement["A"], found.sign_agreement["B"], both.dilution, both.heterogeneity)
        table.add_row(
            str(found.round),
            *(_number(figure) for figure in (*figures, *agreements)),
            _number(found.gradient_heterogeneity, ".3g"),
            "–" if math.isnan(found.error.of_update) else f"{100 * found.error.of_update:.1f} %",
            size(sum(found.bytes_up.values())),
            size(found.bytes_down * len(found.buffers)),
        )
    print_table(table)
    clients = len(rounds[-1].clients)
    chance = random_sign_agreement(clients)
    stdout.print(
        f"With {clients} clients random signs agree to {chance:.2f}; orthogonal updates have κ {clients**-0.5:.2f}."
    )


def _show_experience(rounds: Sequence[RoundDiagnostics]) -> None:
    table = Table(title="\nExperience", title_justify="left", box=None, pad_edge=False)
    table.add_column("round", justify="right")
    table.add_column("client")
    for heading in ("episodes", "demonstrations", "new", "tasks", "turns"):
        table.add_column(heading, justify="right")
    for found in rounds:
        for client, buffer in found.buffers.items():
            counts = (buffer.episodes, buffer.demonstrations, buffer.fresh, buffer.tasks)
            turns = _number(buffer.turns, ".1f")
            table.add_row(str(found.round), client, *(str(count) for count in counts), turns)
    print_table(table)


def _show_lengths(found: RoundDiagnostics) -> None:
    if not any(found.lengths.values()):
        return
    title = f"\nExplored episodes of round {found.round} by length"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("client")
    for heading in ("turns", "episodes", "success", "mean reward"):
        table.add_column(heading, justify="right")
    for client, bins in found.lengths.items():
        for length in bins:
            turns = f"{length.shortest}–{length.longest}" if length.shortest < length.longest else str(length.longest)
            success = percent(length.successes / length.episodes)
            table.add_row(client, turns, str(length.episodes), success, f"{length.reward:.2f}")
    print_table(table)


def _show_transfer(run: Path, tasks: int | None) -> None:
    from fedse.cli import model as models
    from fedse.diagnostics.transfer import transfer_matrix
    from fedse.runs.folder import read_config
    from fedse.runs.layout import RunLayout

    models.ensure(read_config(RunLayout(run)).model)

    def tell(adapter: str, environment: str, rate: SuccessRate) -> None:
        stderr.print(f"{adapter} in {environment}: {rate_with_interval(rate)}", markup=False)

    matrix = transfer_matrix(run, tasks=tasks, on_rate=tell)
    title = f"\nSuccess on held-out tasks of the adapters of round {matrix.round}, with 95 % intervals"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("adapter")
    for environment in next(iter(matrix.rates.values())):
        table.add_column(environment, justify="right")
    for adapter, rates in matrix.rates.items():
        table.add_row(adapter, *(rate_with_interval(rate) for rate in rates.values()))
    print_table(table)


def _number(figure: float, form: str = ".2f") -> str:
    return "–" if math.isnan(figure) else format(figure, form)
