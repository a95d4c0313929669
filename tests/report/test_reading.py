from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fedse.cli.main import app
from fedse.errors import RunError
from fedse.progress import Phase
from fedse.results.measures import write_csv
from fedse.results.reading import read_run, read_runs
from fedse.runs.layout import RunFolder
from helpers.report_runs import begin, config, episode, finish_phase, finish_round, made_run


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_every_number_once(tmp_path: Path) -> None:
    write_csv(tmp_path / "metrics.csv", read_runs([made_run(tmp_path / "run", seed=3)]))
    rows = rows_of(tmp_path / "metrics.csv")
    keys = [(row["round"], row["site"], row["phase"], row["metric"]) for row in rows]
    assert len(keys) == len(set(keys))
    values = {key: float(row["value"]) for key, row in zip(keys, rows, strict=True)}
    assert values["2", "west", "evaluate", "rate"] == 0.75
    assert values["2", "west", "evaluate", "seconds"] == 4
    assert values["2", "west", "train", "last_loss"] == 0.5
    assert values["1", "west", "explore", "dropped.failure"] == 2
    reply = RunFolder(tmp_path / "run").server.reply(1, "west").read_bytes()
    assert values["1", "west", "aggregate", "bytes_up"] == values["1", "west", "aggregate", "bytes_down"] == len(reply)
    assert values["1", "west", "aggregate", "accepted"] == 1
    assert values["1", "", "aggregate", "seconds"] == 0.5
    assert {(row["name"], row["seed"], row["environment"]) for row in rows if row["site"]} == {("made", "3", "maze")}


def test_the_round_under_way_is_read_from_its_phases(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", successes=(0,))
    finish_phase(RunFolder(folder), "west", 1, Phase.EXPLORE, {"episodes": 4, "errors": 0, "successes": 3, "added": 3})
    assert read_run(folder).series(Phase.EXPLORE, "successes", site="west") == {1: 3}
    assert not read_run(folder).is_complete


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        read_run(tmp_path)


def test_a_run_without_round_0_is_refused_unless_it_is_followed(tmp_path: Path) -> None:
    begin(tmp_path, config())
    with pytest.raises(RunError, match="no completed round 0") as caught:
        read_run(tmp_path)
    assert f"fedse report --live {tmp_path}" in caught.value.mend
    assert read_run(tmp_path, allow_unfinished_start=True).records == ()


@pytest.mark.parametrize(
    "change",
    [
        {"clients": []},
        {"clients": {"west": {"dance": {}}}},
        {"clients": {"west": 3}},
        {"evaluation": [1]},
        {"seconds": 1},
    ],
)
def test_damaged_metrics_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    folder = made_run(tmp_path / "run", successes=(0,))
    metrics = RunFolder(folder).server.metrics
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | change) + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        read_run(folder)


def test_metrics_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", successes=(0,))
    metrics = RunFolder(folder).server.metrics
    metrics.write_bytes(metrics.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        read_run(folder)


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", successes=(0,))
    RunFolder(folder).site("west").marker(0, Phase.DEMONSTRATE).write_text("{")
    with pytest.raises(RunError, match="does not say what its phase did"):
        read_run(folder)


def fedse(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


def test_the_command_writes_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = begin(Path("run"), run := config(rounds=1))
    finish_round(layout, run, 0, [])
    assert fedse("report", "run", "--csv", "metrics.csv").exit_code == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["metrics.csv"]
    result = fedse("report", "run", "--figures", "figures")
    assert result.exit_code == 0, result.output
    assert "The report is in report.html" in result.output
    assert "No round has been evaluated yet" in Path("report.html").read_text()
    assert any(Path("figures").iterdir())


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_the_page_of_other_runs_is_not_replaced_unless_it_is_named(
    live: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        made_run(Path(name))
    assert fedse("report", *live, "first").exit_code == 0
    assert fedse("report", *live, "first").exit_code == 0, "it may be made anew"
    before = Path("report.html").read_bytes()
    refused = fedse("report", *live, "second")
    assert refused.exit_code == 2
    assert "report.html is there, and no page of" in refused.output
    assert "name another: --out" in refused.output
    assert Path("report.html").read_bytes() == before
    assert fedse("report", *live, "second", "--out", "report.html").exit_code == 0
    assert Path("report.html").read_bytes() != before


def test_the_command_follows_a_run(tmp_path: Path) -> None:
    layout = begin(tmp_path / "run", run := config(rounds=1))
    for round in (0, 1):
        finish_round(layout, run, round, [episode("a", success=True)])
    page = tmp_path / "page.html"
    result = fedse("report", "--live", tmp_path / "run", "--out", page)
    assert result.exit_code == 0
    assert "All is complete" in result.output
    assert page.exists()


def test_the_command_explains_what_is_wrong(tmp_path: Path) -> None:
    result = fedse("report", tmp_path)
    assert result.exit_code == 1
    assert "is no run folder" in result.output
    assert fedse("report", "--live", tmp_path, "--csv", "metrics.csv").exit_code == 2
