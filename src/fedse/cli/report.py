"""``fedse report``: runs as one HTML page, as figures, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedse.cli.console import examples, size, stderr, stdout

if TYPE_CHECKING:
    from fedse.report import Run

EXAMPLES = examples(
    "fedse report runs/quickstart-seed0",
    "fedse report runs/quickstart-seed0 runs/quickstart-seed1 runs/no-history -o comparison.html",
    "fedse report runs/quickstart-seed0 --figures figures",
    "fedse report runs/quickstart-seed0 --csv metrics.csv",
    "fedse report --live runs/quickstart-seed0",
)


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page (default: report.html; none if only --csv is asked for)."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Also write each figure here, as SVG and PNG.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all metrics here, one value a row.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Write the page anew as the run goes on, until it is complete.")
    ] = False,
) -> None:
    """Make one HTML page of runs: success, learning, time, traffic, and episodes before and after.

    The page is one file and needs no network. Runs that differ in their seeds only are pooled; others are compared.
    """
    from fedse.errors import ConfigError
    from fedse.report import follow, read_runs, write_csv, write_page

    page = out or Path("report.html")
    if live:
        if len(folders) != 1 or figures or csv:
            raise ConfigError("--live follows one run and writes its page only", "leave out the other runs and options")
        follow(folders[0], page, on_page=lambda run: _show_progress(run, page))
        return
    runs = read_runs(folders)
    if csv is not None:
        write_csv(csv, runs)
        stdout.print(f"The metrics are in {csv}", markup=False)
    if csv is None or out is not None or figures is not None:
        write_page(page, runs, figures=figures)
        stdout.print(f"The report is in {page} ({size(page.stat().st_size)}); open it in a browser", markup=False)
    if figures is not None:
        stdout.print(f"Its figures are in {figures}", markup=False)


def _show_progress(run: Run, page: Path) -> None:
    done = f"{max(0, len(run.records) - 1)}/{run.config.rounds} rounds"
    if run.is_complete:
        stdout.print(f"The run is complete; its report is in {page}", markup=False)
    else:
        stderr.print(f"{done}: {page}; Ctrl-C ends the watching, not the run", markup=False)
