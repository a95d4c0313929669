from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from fedse.errors import ConfigError, StorageError
from fedse.export import EventLog, export_events, write_parquet
from fedse.export.tensorboard import tag
from fedse.progress import Event, Phase
from fedse.results.measures import Measurement, write_csv
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


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag → step → value, as TensorBoard reads them; a step that is there twice fails."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: fedse[tensorboard]"
    ).EventAccumulator(str(folder))
    accumulator.Reload()
    found: dict[str, dict[int, float]] = {}
    for name in accumulator.Tags()["scalars"]:
        events = accumulator.Scalars(name)
        found[name] = {event.step: event.value for event in events}
        assert len(found[name]) == len(events)
    return found


def test_tensorboard_reads_every_number(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run"))
    export_events(tmp_path / "logs", run)
    found = scalars(tmp_path / "logs")
    assert found["evaluate/rate/maze"] == {0: 0, 1: 0.25, 2: 0.5}
    assert found["explore/successes/east"] == {1: 1, 2: 2}
    assert sum(len(steps) for steps in found.values()) == len(run.measurements)
    assert set(found) == {tag(measured) for measured in run.measurements}
    export_events(tmp_path / "logs", run)
    assert scalars(tmp_path / "logs") == found


def test_a_log_follows_a_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: fedse[tensorboard]")
    whole = made_run(tmp_path / "run")
    metrics = whole / "server/metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    for _ in range(2):  # the second time as a resumed run does, which begins its log anew
        metrics.write_text(lines[0])
        with EventLog(tmp_path / "logs") as log:
            log.follow(whole, Event(Phase.EXPLORE, 1, "east", 1, 4))
            log.follow(whole, Event(Phase.EXPLORE, 1, "east", 4, 4, finished=True))
            metrics.write_text("".join(lines))
            log.follow(whole, Event(Phase.AGGREGATE, 2, "", 2, 2, finished=True))
    assert scalars(tmp_path / "logs")["evaluate/rate/maze"] == {0: 0, 1: 0.25, 2: 0.5}


def test_a_log_that_is_there_stays_until_there_is_something_to_write(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: fedse[tensorboard]")
    old = tmp_path / "events.out.tfevents.1"
    old.write_text("of a run that goes on")
    with EventLog(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [old.name]


def test_sites_that_share_an_environment_have_curves_of_their_own() -> None:
    def curve(metric: str, site: str) -> str:
        return tag(Measurement(1, site, "maze", Phase.EVALUATE, metric, 1.0))

    for metric in ("transfer.successes", "seconds"):
        assert curve(metric, "near") != curve(metric, "far")
    assert curve("rate", "near") == "evaluate/rate/maze"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds more than event files, as notes\.txt"):
        export_events(tmp_path / "logs", read_run(made_run(tmp_path / "run")))
    assert (tmp_path / "logs" / "notes.txt").read_text() == "mine"


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(made_run(tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError) as caught:
        write_parquet(tmp_path / "metrics.parquet", [run])
    assert "fedse[parquet]" in caught.value.mend
    with pytest.raises(ConfigError) as caught:
        export_events(tmp_path / "logs", run)
    assert "fedse[tensorboard]" in caught.value.mend
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
