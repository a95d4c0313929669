from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from fedse.errors import ConfigError
from fedse.export import write_parquet
from fedse.results.measures import write_csv
from fedse.results.reading import read_run, read_runs
from helpers.export_runs import made_run


def test_parquet_has_the_rows_of_the_csv_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: fedse[parquet]")
    runs = read_runs([made_run(tmp_path / "a"), made_run(tmp_path / "b", seed=1)])
    write_csv(tmp_path / "metrics.csv", runs)
    write_parquet(tmp_path / "metrics.parquet", runs)
    table = parquet.read_table(tmp_path / "metrics.parquet")
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        **dict.fromkeys(("run", "name", "site", "environment", "phase", "metric"), "string"),
        "seed": "int64",
        "round": "int64",
        "value": "double",
    }
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [{**{key: str(value) for key, value in row.items()}, "value": row["value"]} for row in table.to_pylist()]
    assert [{**row, "value": pytest.approx(float(row["value"]))} for row in rows] == found


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(made_run(tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError) as caught:
        write_parquet(tmp_path / "metrics.parquet", [run])
    assert "fedse[parquet]" in caught.value.mend
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
