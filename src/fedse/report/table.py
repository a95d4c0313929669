"""The metrics of runs as one table in long format."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fedse.report.reading import Run
from fedse.storage import atomic_write

COLUMNS = ("run", "name", "seed", "round", "site", "environment", "phase", "metric", "value")


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write every number of the runs, one a row, as CSV (RFC 4180) with a heading.

    Raises:
        StorageError: if the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for run in runs:
        for found in run.measurements:
            writer.writerow(
                [
                    run.layout.root,
                    run.config.name,
                    run.config.seed,
                    found.round,
                    found.site,
                    found.environment,
                    found.phase.value,
                    found.metric,
                    f"{found.value:.10g}",
                ]
            )
    atomic_write(path, text.getvalue().encode(errors="replace"))
