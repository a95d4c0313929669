"""``fedse ls``: the run folders and how far they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fedse.cli.console import examples, percent, print_table, sparkline, stdout

if TYPE_CHECKING:
    from fedse.runs.layout import RunLayout

EXAMPLES = examples("fedse ls", "fedse ls /data/runs")


def ls(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder that holds the run folders.")] = Path(
        "runs"
    ),
) -> None:
    """List run folders: rounds done, and success on held-out tasks before and after (mean of environments)."""
    from fedse.errors import FedseError, RunError
    from fedse.runs.layout import RunLayout

    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}", "name the folder that holds your runs, or begin one: fedse run")
    layouts = [RunLayout(path) for path in sorted(folder.iterdir()) if RunLayout(path).config.is_file()]
    if not layouts:
        stdout.print(f"{folder} holds no runs", markup=False)
        return
    table = Table("run", "rounds", "environments", box=None, pad_edge=False)
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("by round")
    for layout in layouts:
        try:
            cells = [Text(cell) for cell in _cells(layout)]
        except FedseError as error:  # one damaged folder must not hide the others
            cells = [Text(error.what, style="red")]
        table.add_row(Text(str(layout.root)), *cells)
    print_table(table)


def _cells(layout: RunLayout) -> list[str]:
    from fedse.evaluation import macro_average
    from fedse.runs.folder import read_config, read_records

    config, records = read_config(layout), read_records(layout)
    environments = ", ".join(dict.fromkeys(client.environment for client in config.clients))
    done = f"{max(0, len(records) - 1)}/{config.rounds}"
    averages = [macro_average(record.evaluation) for record in records if record.evaluation]
    if not averages:
        return [done, environments, "–", "–", ""]
    return [done, environments, percent(averages[0]), percent(averages[-1]), sparkline(averages)]
