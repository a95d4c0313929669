"""``fedse ls``: the run folders and how far they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument

from fedse.cli.console import examples, say, show_table

EXAMPLES = examples("fedse ls", "fedse ls /data/runs")


def ls(
    folder: Annotated[Path, Argument(metavar="[DIR]", help="The folder that holds the run folders.")] = Path("runs"),
) -> None:
    """List run folders: rounds done, and success on held-out tasks before and after (mean of environments)."""
    from fedse.errors import FedseError, RunError
    from fedse.results.reading import is_run

    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}", "name the folder that holds your runs, or begin one: fedse run")
    folders = [path for path in sorted(folder.iterdir()) if is_run(path)]
    if not folders:
        say(f"{folder} holds no runs")
        return
    rows: list[list[str | Text]] = []
    for path in folders:
        try:
            rows.append([str(path), *_cells(path)])
        except FedseError as error:  # one damaged folder must not hide the others
            rows.append([str(path), Text(error.what, style="red"), "", "", "", ""])
    headings = ("run", "rounds", "environments", "before", "after", "by round")
    show_table(headings, rows, texts=("rounds", "environments", "by round"))


def _cells(folder: Path) -> list[str]:
    from fedse.evaluation import macro_average
    from fedse.results.formatting import NONE, percent, sparkline
    from fedse.results.reading import run_at

    run = run_at(folder)
    environments = ", ".join(dict.fromkeys(client.environment for client in run.config.clients))
    done = f"{run.rounds_done}/{run.config.rounds}"
    averages = [macro_average(record.evaluation) for record in run.records if record.evaluation]
    if not averages:
        return [done, environments, NONE, NONE, ""]
    return [done, environments, percent(averages[0]), percent(averages[-1]), sparkline(averages)]
