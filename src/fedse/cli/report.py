"""``fedse report``: a suite or runs as one HTML page, as figures, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from fedse.cli.console import examples, note, say
from fedse.errors import ConfigError
from fedse.results.formatting import size
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.report import Study

EXAMPLES = examples(
    "fedse report runs/quickstart-seed0",
    "fedse report runs/quickstart-seed0 runs/quickstart-seed1 runs/no-history -o comparison.html",
    "fedse report suites/smollm2 -o smollm2.html",
    "fedse report runs/quickstart-seed0 --figures figures",
    "fedse report runs/quickstart-seed0 --csv metrics.csv",
    "fedse report --live runs/quickstart-seed0",
)


def report(
    folders: Annotated[list[Path], Argument(metavar="SUITE|RUN...", help="The folder of a suite, or run folders.")],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            help="The page; one that is there is replaced.",
            show_default="report.html, if that is no page of others",
        ),
    ] = None,
    figures: Annotated[Path | None, Option(help="Also write each figure here, as SVG and PNG.")] = None,
    csv: Annotated[Path | None, Option(help="Write all metrics here, one value a row.")] = None,
    live: Annotated[
        bool, Option("--live", help="Write the page anew as the work goes on, until it is complete.")
    ] = False,
) -> None:
    """Make one HTML page of a suite or of runs: success, comparisons, time, traffic, episodes before and after.

    The page is one file and needs no network. Runs that differ in their seeds only are pooled; others
    are compared with the first one named, the methods of a suite with its reference.
    """
    from fedse.report import check_subject, follow, read_study, write_page
    from fedse.results.measures import write_csv

    page = out or Path("report.html")
    if live:
        if figures or csv:
            raise ConfigError("--live writes the page only", "leave out --figures and --csv")
        if out is None:
            check_subject(page, read_study(folders, allow_unfinished_start=True))
        follow(folders, page, on_page=lambda study: _show_progress(study, page))
        return
    study = read_study(folders)
    writes_page = csv is None or out is not None or figures is not None
    if writes_page and out is None:
        check_subject(page, study)
    if csv is not None:
        write_csv(csv, study.runs)
        say(f"The metrics are in {csv}")
    if writes_page:
        write_page(page, study, figures=figures)
        say(f"The report is in {page} ({size(page.stat().st_size)}); open it in a browser")
    if figures is not None:
        say(f"Its figures are in {figures}")


def _show_progress(study: Study, page: Path) -> None:
    if study.is_complete:
        say(f"All is complete; the report is in {page}")
        return
    rounds = sum(run.rounds_done for run in study.runs)
    state = "at work" if any(run.is_at_work for run in study.runs) else "no process works on it, it has stopped"
    done = f"{counted(len(study.runs), 'run')}, {counted(rounds, 'round')} done"
    text = f"{done}, {len(study.missing)} missing; {state}: {page}"
    note(f"{text}; Ctrl-C ends the watching, not the work")
