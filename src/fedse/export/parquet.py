"""The metrics of runs as Parquet, in the columns of the CSV table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from fedse.errors import ConfigError
from fedse.results.measures import COLUMNS, metric_rows
from fedse.results.reading import Run
from fedse.storage import atomic_write


def write_parquet(path: Path, runs: Sequence[Run]) -> None:
    """Write every number of the runs, one a row; ``seed`` and ``round`` are int64, ``value`` is double, the rest text.

    Raises:
        ConfigError: if pyarrow is not installed.
        StorageError: if the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as cause:
        raise ConfigError("Parquet needs pyarrow", "pip install 'fedse[parquet]', or name a *.csv file") from cause
    types = {"seed": pyarrow.int64(), "round": pyarrow.int64(), "value": pyarrow.float64()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    table = list(metric_rows(runs))
    columns = {name: [row[index] for row in table] for index, name in enumerate(COLUMNS)}
    content = io.BytesIO()
    parquet.write_table(pyarrow.table(columns, schema=schema), content)
    atomic_write(path, content.getvalue())
