"""``fedse diagnose``: what happened between the sites of a run, round by round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import fedse
from fedse.cli import model as models
from fedse.cli.console import examples, note, refuse_idle, say, show_table
from fedse.results.formatting import percent, rate_with_interval, size
from fedse.storage import atomic_write

if TYPE_CHECKING:
    from fedse.diagnostics.rounds import RoundDiagnostics

EXAMPLES = examples(
    "fedse diagnose runs/quickstart-seed0",
    "fedse diagnose runs/quickstart-seed0 --csv rounds.csv",
    "fedse diagnose runs/quickstart-seed0 --transfer --tasks 20",
)


def diagnose(
    run: Annotated[Path, Argument(metavar="RUN", help="A run folder; the run may still be under way.")],
    csv: Annotated[
        Path | None, Option(help="Write every figure to this file: round, client, other, metric, value.")
    ] = None,
    transfer: Annotated[
        bool, Option("--transfer", help="Also play each client's last update in every environment.")
    ] = False,
    tasks: Annotated[
        int | None, Option(min=1, help="Tasks per environment of --transfer.", show_default="as in the run")
    ] = None,
) -> None:
    """Show drift and conflict of the updates, aggregation error, experience and traffic by round."""
    from fedse.diagnostics.rounds import diagnose as diagnose_run
    from fedse.results.reading import run_at

    if not transfer:
        refuse_idle({"--tasks": tasks}, "without --transfer")
    rounds = diagnose_run(run)
    run_at(run).check_begun()
    if csv is not None:
        from fedse.diagnostics.records import as_csv

        atomic_write(csv, as_csv(rounds))
    if any(of_round.clients for of_round in rounds):
        _show_updates(rounds)
    else:
        say("The sites of this run exchange no adapters: there are no updates to compare.\n")
    _show_experience(rounds)
    _show_lengths(rounds[-1])
    if transfer:
        _show_transfer(run, tasks)


def _show_updates(rounds: Sequence[RoundDiagnostics]) -> None:
    from fedse.adapters.algebra import random_sign_agreement

    rows = []
    for of_round in rounds:
        a, b, product, both = (of_round.conflicts[part] for part in ("A", "B", "BA", "AB"))
        figures = (a.mean_cosine, b.mean_cosine, product.mean_cosine, product.lowest_cosine)
        agreements = (of_round.sign_agreement["A"], of_round.sign_agreement["B"], both.dilution, both.heterogeneity)
        numbers = [*map(_number, (*figures, *agreements)), _number(of_round.gradient_heterogeneity, ".3g")]
        traffic = [size(sum(sizes.values())) for sizes in (of_round.bytes_up, of_round.bytes_down)]
        rows.append((f"{of_round.round:>5}", *numbers, percent(of_round.error.of_update, 1), *traffic))
    headings = ("cosine A", "cosine B", "cosine BA", "lowest BA", "signs A", "signs B", "κ", "h", "ζ² (proxy)")
    show_table(("round", *headings, "error", "up", "down"), rows, title="Updates of the clients")
    clients = len(rounds[-1].clients)
    chance = random_sign_agreement(clients)
    say(f"With {clients} clients random signs agree to {chance:.2f}; orthogonal updates have κ {clients**-0.5:.2f}.")


def _show_experience(rounds: Sequence[RoundDiagnostics]) -> None:
    rows = [
        (
            f"{of_round.round:>5}",
            client,
            *map(str, (buffer.episodes, buffer.demonstrations, buffer.fresh, buffer.tasks)),
            _number(buffer.turns, ".1f"),
        )
        for of_round in rounds
        for client, buffer in of_round.buffers.items()
    ]
    headings = ("round", "client", "episodes", "demonstrations", "new", "tasks", "turns")
    show_table(headings, rows, title="\nExperience", texts=["client"])


def _show_lengths(last: RoundDiagnostics) -> None:
    rows = [
        (
            client,
            f"{length.shortest}–{length.longest}" if length.shortest < length.longest else str(length.longest),
            str(length.episodes),
            percent(length.successes / length.episodes),
            f"{length.reward:.2f}",
        )
        for client, bins in last.lengths.items()
        for length in bins
    ]
    if rows:
        headings = ("client", "turns", "episodes", "success", "mean reward")
        show_table(headings, rows, title=f"\nExplored episodes of round {last.round} by length")


def _show_transfer(run: Path, tasks: int | None) -> None:
    from fedse.diagnostics.transfer import transfer_matrix
    from fedse.results.reading import run_at

    models.ensure(run_at(run).config.model)

    def tell(adapter: str, environment: str, rate: fedse.SuccessRate) -> None:
        note(f"{adapter} in {environment}: {rate_with_interval(rate)}")

    matrix = transfer_matrix(run, tasks=tasks, on_rate=tell)
    rows = [(adapter, *map(rate_with_interval, rates.values())) for adapter, rates in matrix.rates.items()]
    title = f"\nSuccess on held-out tasks of the adapters of round {matrix.round}, with 95 % intervals"
    show_table(("adapter", *next(iter(matrix.rates.values()))), rows, title=title)


def _number(figure: float, form: str = ".2f") -> str:
    return "–" if math.isnan(figure) else format(figure, form)
