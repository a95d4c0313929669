from __future__ import annotations

import os
import sqlite3
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from fedse.errors import ConfigError, LogWarning, StorageError, UnknownNameError
from fedse.export import KINDS, logged, make_log
from fedse.export.logs import tag
from fedse.progress import Event, Phase, silent
from fedse.results.measures import Measurement
from fedse.results.reading import read_run
from helpers.export_runs import made_run

#: Curve → round → value.
Curves = dict[str, dict[int, float]]
EXPLORED = Event(Phase.EXPLORE, 1, "east", 4, 4, finished=True)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


def in_tensorboard(run: Path) -> Curves:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: fedse[tensorboard]"
    ).EventAccumulator(str(run / "logs/tensorboard"))
    reader.Reload()
    return collected(
        (name, event.step, event.value) for name in reader.Tags()["scalars"] for event in reader.Scalars(name)
    )


def in_mlflow(run: Path) -> Curves:
    with closing(sqlite3.connect(run / "logs/mlflow.db")) as store:
        assert store.execute("select count(*) from runs").fetchone() == (1,)
        return collected(store.execute("select key, step, value from metrics"))


def in_wandb(run: Path) -> Curves:
    (file,) = run.glob("logs/wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    while not (records := wandb_records(file)) or not records[-1].HasField("exit"):  # its own process writes it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return collected(
        (name, record.history.step.num, float(item.value_json))
        for record in records
        for item in record.history.item
        if not (name := "/".join(item.nested_key) or item.key).startswith("_")
    )


def wandb_records(file: Path) -> list[Any]:
    """What lies in W&B's offline file, which is a log of LevelDB's with one protobuf message a record."""
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="needs wandb: fedse[wandb]")
    content = file.read_bytes()[7:]
    assert len(content) < 32768, "a second block has a different beginning"
    found, at = [], 0
    while at + 7 <= len(content):
        (size,) = struct.unpack_from("<H", content, at + 4)
        found.append(messages.Record.FromString(content[at + 7 : at + 7 + size]))
        at += 7 + size
    return found


def collected(rows: Iterable[tuple[str, int, float]]) -> Curves:
    """A number that is there twice fails."""
    found: Curves = {}
    for name, step, value in rows:
        assert step not in found.setdefault(name, {})
        found[name][step] = value
    return found


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}


@pytest.fixture(params=["tensorboard", pytest.param("mlflow", marks=pytest.mark.long), "wandb"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name, reason=f"needs {name}: fedse[{name}]")
    return name


@pytest.fixture
def read(kind: str) -> Callable[[Path], Curves]:
    return READERS[kind]


def test_a_finished_run_is_logged_with_every_number_once(
    kind: str, read: Callable[[Path], Curves], tmp_path: Path
) -> None:
    run = read_run(made_run(tmp_path / "run"))
    for _ in range(2):
        with make_log(kind, run.folder) as log:
            log.update(run)
        found = read(run.folder)
        assert found["evaluate/rate/maze"] == {0: 0, 1: 0.25, 2: 0.5}
        assert found["explore/successes/east"] == {1: 1, 2: 2}
        assert sum(len(steps) for steps in found.values()) == len(run.measurements)


def test_a_log_follows_a_run_that_is_resumed(kind: str, read: Callable[[Path], Curves], tmp_path: Path) -> None:
    whole = made_run(tmp_path / "run")
    metrics = whole / "server/metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    for rounds in (1, 2, 3):
        metrics.write_text("".join(lines[:rounds]))
        with suppress(KeyboardInterrupt), logged([make_log(kind, whole)], silent) as told:
            told(Event(Phase.EXPLORE, 1, "east", 1, 4))
            told(EXPLORED)
            if rounds == 2:
                raise KeyboardInterrupt
        assert read(whole)["evaluate/rate/maze"] == {
            number: value for number, value in {0: 0, 1: 0.25, 2: 0.5}.items() if number < rounds
        }
    assert read(whole)["explore/successes/east"] == {1: 1, 2: 2}


def test_a_log_that_fails_is_warned_of_once_and_what_it_lacks_comes_later(
    kind: str, read: Callable[[Path], Curves], tmp_path: Path
) -> None:
    run = made_run(tmp_path / "my run")
    (run / "logs").write_text("in the way")
    with warnings.catch_warnings(record=True) as given, logged([make_log(kind, run)], silent) as told:
        warnings.simplefilter("always")
        told(EXPLORED)
        told(EXPLORED)
    (warning,) = (str(one.message) for one in given if issubclass(one.category, LogWarning))
    assert f"fedse export '{run}' --log-to {kind}" in warning
    (run / "logs").unlink()
    with make_log(kind, run) as log:
        log.update(read_run(run))
    assert read(run)["evaluate/rate/maze"] == {0: 0, 1: 0.25, 2: 0.5}


def test_a_run_that_is_refused_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), logged([make_log(kind, tmp_path / "run")], silent):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_library_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught, logged([make_log(name, tmp_path / "run")], silent):
        pass
    assert caught.value.mend == f"pip install 'fedse[{name}]'"
    assert not list(tmp_path.iterdir())


def test_an_unknown_log_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean mlflow"):
        make_log("mlfow", tmp_path)


@pytest.mark.long
def test_mlflow_has_the_settings_and_how_the_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: fedse[mlflow]")
    run = made_run(tmp_path / "run")
    store = f"sqlite:///{tmp_path / 'all.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    client = mlflow.MlflowClient(tracking_uri=store)

    def found() -> object:
        (number,) = (one.experiment_id for one in client.search_experiments(filter_string="name = 'mine'"))
        (there,) = client.search_runs([number])
        assert there.data.params["method.strategy"] == "mean"
        assert there.info.run_name == "run"
        return there.info.status

    with suppress(KeyboardInterrupt), logged([make_log("mlflow", run)], silent) as told:
        told(EXPLORED)
        assert found() == "RUNNING"
        raise KeyboardInterrupt
    assert found() == "FAILED"
    with logged([make_log("mlflow", run)], silent) as told:
        told(EXPLORED)
        assert found() == "RUNNING"
    assert found() == "FINISHED"
    assert not (run / "logs/mlflow.db").exists()


def test_what_is_said_of_a_log_holds_no_credentials(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow: fedse[mlflow]")
    run = made_run(tmp_path / "run")
    target = "mlflow:http://me:secret@127.0.0.1:9"
    with pytest.warns(LogWarning) as given, logged([make_log(target, run)], silent):
        pass
    assert "secret" not in str(given[0].message)
    assert "secret" not in make_log(target, run).look


def test_wandb_takes_nothing_along_but_numbers_and_settings(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb: fedse[wandb]")
    run = made_run(tmp_path / "run")
    with make_log(f"wandb:{tmp_path / 'all'}", run) as log:
        log.update(read_run(run))
    (folder,) = (tmp_path / "all/wandb").glob("offline-run-*")
    assert log.look == f"wandb sync {folder}"
    assert not list((folder / "files").iterdir())
    kinds = {record.WhichOneof("record_type") for record in wandb_records(next(folder.glob("*.wandb")))}
    assert kinds <= {"header", "run", "telemetry", "summary", "history", "exit"}


def test_a_log_that_is_there_stays_until_there_is_something_to_write(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: fedse[tensorboard]")
    old = tmp_path / "run/events.out.tfevents.1"
    old.parent.mkdir()
    old.write_text("of a run that goes on")
    with make_log(f"tensorboard:{tmp_path}", tmp_path / "elsewhere/run"):
        pass
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_sites_that_share_an_environment_have_curves_of_their_own() -> None:
    def curve(metric: str, site: str, environment: str = "maze") -> str:
        return tag(Measurement(1, site, environment, Phase.EVALUATE, metric, 1.0))

    for metric in ("transfer.successes", "seconds"):
        assert curve(metric, "near") != curve(metric, "far")
    assert curve("rate", "near") == "evaluate/rate/maze"
    assert curve("rate", "near", "openenv:http://host:80@near") == "evaluate/rate/openenv:http:_host:80_near"


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: fedse[tensorboard]")
    run = made_run(tmp_path / "run")
    (tmp_path / "logs/run").mkdir(parents=True)
    (tmp_path / "logs/run/notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds more than event files, as notes\.txt"):
        make_log(f"tensorboard:{tmp_path / 'logs'}", run)
    assert (tmp_path / "logs/run/notes.txt").read_text() == "mine"
