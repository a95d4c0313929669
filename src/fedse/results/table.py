"""The metrics of runs as one table in long format."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedse.results.reading import Run
from fedse.storage import atomic_write

COLUMNS = ("run", "name", "seed", "round", "site", "environment", "phase", "metric", "value")


#: As the columns say.
Row = tuple[str, str, int, int, str, str, str, str, float]


def rows(runs: Sequence[Run]) -> Iterator[Row]:
    """Every number of the runs, one a row."""
    for run in runs:
        place, config = str(run.layout.root), run.config
        for found in run.measurements:
            where = (found.round, found.site, found.environment, found.phase.value)
            yield place, config.name, config.seed, *where, found.metric, found.value


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write every number of the runs, one a row, as CSV (RFC 4180) with a heading.

    Raises:
        StorageError: if the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows((*row[:-1], f"{row[-1]:.10g}") for row in rows(runs))
    atomic_write(path, text.getvalue().encode(errors="replace"))
