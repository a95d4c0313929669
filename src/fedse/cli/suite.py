"""``fedse suite``: every method with every model and seed, side by side, in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.text import Text
from typer import Argument, Exit, Option, Typer

import fedse
from fedse.cli import model as models
from fedse.cli import suite_live
from fedse.cli.console import examples, note, say, show_table, stderr, stdout
from fedse.errors import ConfigError, ModelError
from fedse.results.formatting import NONE, duration
from fedse.texts import command, counted

if TYPE_CHECKING:
    from fedse.suites import Suite, SuiteResults

app = Typer(no_args_is_help=True, help="Run methods × ablations × seeds × models, and put them into one table.")

_NAME = Argument(metavar="NAME|FILE", help="A shipped suite, or a YAML file.", show_default=False)


@app.command("ls", epilog=examples("fedse suite ls"))
def list_suites() -> None:
    """List the shipped suites."""
    from fedse.suites import load_suite, suite_names

    rows = [(suite.name, suite.description, str(_count_runs(suite))) for suite in map(load_suite, suite_names())]
    show_table(("name", "description", "runs"), rows, texts=["description"])


@app.command(epilog=examples("fedse suite show tiny", "fedse suite show tiny > mine.yaml"))
def show(name: Annotated[str, _NAME]) -> None:
    """Print a suite as YAML, with everything that it takes from presets and methods written out."""
    from fedse.suites import dump_suite, load_suite

    stdout.print(dump_suite(load_suite(name)), markup=False, end="")


@app.command(
    epilog=examples(
        "fedse suite run tiny",
        "fedse suite run mine.yaml --out suites/mine --jobs 4",
        "fedse suite run paper --dry-run",
        "fedse suite run --resume --out suites/tiny",
        "fedse suite run nano-ablations --reuse suites/nano  # has Fed-SE's runs",
    )
)
def run(
    name: Annotated[str | None, _NAME] = None,
    out: Annotated[Path | None, Option("--out", "-o", help="The suite's folder.", show_default="suites/<name>")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the suite in its folder, or begin it.")] = False,
    jobs: Annotated[
        int | None, Option(min=1, help="Runs side by side.", show_default="the suite's, else one per core or GPU")
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        Option(
            metavar="DIR",
            help="Another suite's folder: finished runs of the same configuration are copied. May be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Check the runs, list them with states and memory, and stop.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Show the table only.")] = False,
) -> None:
    """Run a suite: each method, model and seed is a run of its own, several side by side.

    A suite that was interrupted, or killed, goes on with --resume and ends with the same table.
    A run that fails does not stop the others; the exit status is then 1, and --resume tries it again.
    """
    from fedse.suites import SuiteLayout

    suite, folder = _subject(name, out, resume=resume)
    again = command("fedse suite run --resume --out", folder)
    if dry_run:
        _show_plan(suite, folder, reuse or [])
        return
    try:
        results = _execute(suite, folder, resume=resume, jobs=jobs, reuse=reuse or [], quiet=quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: {again}") from None
    _show_results(results)
    layout = SuiteLayout(folder)
    say(f"\nThe suite is in {folder}, this table in {layout.markdown} and {layout.csv}")
    if not results.is_complete:
        note(f"\nSome runs failed; this tries them again: {again}", style="red")
        raise Exit(1)


@app.command(epilog=examples("fedse suite table suites/tiny"))
def table(folder: Annotated[Path, Argument(metavar="DIR", help="The suite's folder.")]) -> None:
    """Print the table of a suite, also while it is at work."""
    from fedse.suites import read_suite

    _show_results(read_suite(folder))


@app.command(epilog=examples("fedse suite pack suites/nano -o results/nano"))
def pack(
    folder: Annotated[Path, Argument(help="The folder of a suite.")],
    out: Annotated[Path, Option("--out", "-o", help="The folder to make.")],
) -> None:
    """Copy a suite's results without its weights, to publish them: what tables, reports and comparisons read."""
    from fedse.suites.packing import pack_suite

    with stderr.status("") as status:
        packed = pack_suite(folder, out, lambda cell: status.update(f"packing {cell}"))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(f"{counted(len(packed), 'run')} of {folder} are in {out} ({size / 2**20:.1f} MiB)")


def _subject(name: str | None, out: Path | None, *, resume: bool) -> tuple[Suite, Path]:
    """The suite to run and its folder; without a name the one that the folder holds already."""
    from fedse.suites import SuiteLayout, load_suite, suite_names

    if name is None:
        if out is None or not resume or not SuiteLayout(out).suite.is_file():
            mend = f"name one ({', '.join(suite_names())}) or a YAML file; or go on with one: --resume --out DIR"
            raise ConfigError("which suite?", mend)
        return load_suite(SuiteLayout(out).suite), out
    suite = load_suite(name)
    return suite, out or Path("suites") / suite.name


def _execute(
    suite: Suite, folder: Path, *, resume: bool, jobs: int | None, reuse: Sequence[Path], quiet: bool
) -> SuiteResults:
    from fedse.suites.reading import read_results

    for config in {cell.config.model.name: cell.config for cell in suite.cells()}.values():
        models.ensure(config.model)
    if not quiet:
        note(f"{folder}: {_shape(suite)}")
    with nullcontext() if quiet else stderr.status("loading libraries"):
        from fedse.suites.running import run_suite
    with suite_live.shown(read_results(suite, folder), quiet=quiet) as listener:
        return run_suite(suite, folder, resume=resume, jobs=jobs, reuse=reuse, listener=listener)


def _show_plan(suite: Suite, folder: Path, reuse: Sequence[Path]) -> None:
    from fedse.planning import check_runs
    from fedse.suites.checking import check_folder
    from fedse.suites.progress import Step, SuiteEvent, SuiteProgress
    from fedse.suites.reading import read_results
    from fedse.suites.running import reusable

    if problems := check_runs((cell.method, cell.config) for cell in suite.cells()):
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"some runs of the suite could not begin:{listed}", "mend the suite")
    check_folder(suite, folder)
    results = read_results(suite, folder)
    progress = SuiteProgress(results)
    elsewhere = {}
    for donated in reusable(results, reuse):
        elsewhere[str(donated.cell)] = donated.folder
        progress(SuiteEvent(Step.TAKEN_OVER, donated.cell, result=donated))
    configs = {(result.cell.model, result.cell.method): result.cell.config for result in results.cells}
    memory = {place: _memory(config) for place, config in configs.items()}
    rows = []
    for result in results.cells:
        cell, place = result.cell, result.folder
        state = f"the run of {cell.home}" if cell.is_shared else result.state.value
        if source := elsewhere.get(str(cell)):
            state, place = "done there", source
        settings = (cell.config.model.name, str(cell.config.rounds), memory[cell.model, cell.method])
        rows.append((str(cell), state, *settings, str(place)))
    headings = ("run", "state", "model", "rounds", "memory", "folder")
    show_table(headings, rows, texts=headings)
    say(f"\n{_shape(suite)}; their environments, tasks and methods are there")
    left = progress.remaining()
    known = not math.isnan(left)
    told = f"about {duration(left)}, one after the other, as the runs that are done" if known else "no run is done yet"
    say(f"Estimate of the rest: {told}")


def _memory(config: fedse.RunConfig) -> str:
    """What a run needs on its device; a model whose shapes are not known may run all the same.

    Raises:
        AdapterError: if the adapter changes layers that the model does not have.
    """
    from fedse.planning import plan_of

    try:
        return f"{plan_of(config).peak / 1e9:.1f} GB"
    except ModelError:
        return NONE


def _shape(suite: Suite) -> str:
    parts = {"method": suite.all_methods, "model": suite.models, "seed": suite.seeds}
    words = [counted(len(of_kind), kind) for kind, of_kind in parts.items()]
    return f"{' × '.join(words)}, {counted(_count_runs(suite), 'run')}"


def _count_runs(suite: Suite) -> int:
    return sum(not cell.is_shared for cell in suite.cells())


def _show_results(results: SuiteResults) -> None:
    from fedse.suites.rendering import cells, has_difference, legend, parts, transfer_cells
    from fedse.suites.table import TransferRow, suite_table

    found = suite_table(results)
    say(found.title, style="bold")
    for title, headings, rows in parts(found):
        lines: list[list[str | Text]] = []
        for row in rows:
            if isinstance(row, TransferRow):
                lines.append([*transfer_cells(found, row)])
            else:
                *texts, difference = cells(found, row)
                lines.append([*texts, Text(difference, "bold" if has_difference(row) else "")])
        show_table(headings, lines, title=f"\n{title}")
    say(f"\n{legend(found)}")
    for row in found.rows:
        for text in row.notes:
            say(f"{row.method.label}: {text}", style="yellow")
