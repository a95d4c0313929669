from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from fedse.cli import suite_live
from fedse.cli.main import app
from fedse.progress import Event, Phase
from fedse.settings import method_names
from fedse.suites import Suite, SuiteResults, load_suite, read_suite, suite_names
from fedse.suites.progress import Step, SuiteEvent, SuiteListener
from fedse.suites.reading import read_cell
from helpers.made_suites import TWO_SITES, begin, cell, fail, finish, suite

MADE = suite(TWO_SITES)
VERDICTS = {"maze": [True, False], "wordle": [False, False]}


def cli(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "made.yaml"
    path.write_text(TWO_SITES)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    begin(MADE, folder)
    for found in MADE.cells():
        if not found.is_shared:
            finish(found, folder, VERDICTS)
    return folder


def instead_of_running(monkeypatch: pytest.MonkeyPatch, work: Callable[..., SuiteResults]) -> None:
    from fedse.suites import running

    monkeypatch.setattr(running, "run_suite", work)


def test_methods_are_listed_with_their_settings() -> None:
    printed = cli("methods").stdout
    assert all(name in printed for name in method_names())
    assert "method.strategy=isolated" in printed


def test_suites_are_listed_and_shown_as_files_that_run_them_again(tmp_path: Path) -> None:
    assert all(name in cli("suite", "ls").stdout for name in suite_names())
    file = tmp_path / "copy.yaml"
    file.write_text(cli("suite", "show", "tiny").stdout)
    assert load_suite(file) == load_suite("tiny")


def test_a_dry_run_lists_the_runs_and_makes_nothing(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("suite", "run", file, "--out", out, "--dry-run")
    assert result.exit_code == 0
    assert "tiny/no-history/seed-1" in result.stdout
    assert "the run of fed-se" in result.stdout
    assert "6 methods × 1 model × 2 seeds, 10 runs" in result.stdout
    assert "no run is done yet" in result.stdout
    assert len(re.findall(r" [0-9]+\.[0-9] GB ", result.stdout)) == 12
    assert not out.exists()


def test_a_dry_run_estimates_from_what_is_done(file: Path, root: Path) -> None:
    (root / "cells/tiny/fedit/seed-1/server/metrics.jsonl").unlink()
    printed = cli("suite", "run", file, "--out", root, "--dry-run").stdout
    assert "tiny/fedit/seed-1" in next(line for line in printed.splitlines() if "partial" in line)
    assert "about 0:10" in printed  # two rounds of five seconds, as the other seed


def test_a_dry_run_refuses_a_folder_as_the_run_would(file: Path, root: Path, tmp_path: Path) -> None:
    before = sorted(root.rglob("*"))
    file.write_text(TWO_SITES.replace("rounds: 1", "rounds: 1\n  training: {steps: 2}"))
    problems = {root: "has cells of other configurations:\n  - tiny/pre-trained/seed-0", tmp_path: "no suite folder"}
    for folder, problem in problems.items():
        results = [cli("suite", "run", file, "--resume", "--out", folder, *words) for words in ([], ["--dry-run"])]
        assert [result.exit_code for result in results] == [1, 1]
        assert problem in results[0].stderr
        assert problem in results[1].stderr
        assert "done" not in results[1].stdout
    assert [path for path in sorted(root.rglob("*")) if path.name != "suite.lock"] == before


def test_a_run_that_was_resumed_by_itself_with_more_workers_is_still_the_suites(file: Path, root: Path) -> None:
    config = root / "cells/tiny/fedit/seed-0/server/config.yaml"
    config.write_text(config.read_text().replace("workers: 1", "workers: 2"))
    assert cli("suite", "run", file, "--resume", "--out", root, "--dry-run").exit_code == 0


def test_a_dry_run_says_which_runs_would_be_taken_over(file: Path, root: Path, tmp_path: Path) -> None:
    printed = cli("suite", "run", file, "--out", tmp_path / "new", "--reuse", root, "--dry-run").stdout
    [line] = [line for line in printed.splitlines() if "tiny/fedit/seed-0" in line]
    assert "done there" in line
    assert str(root / "cells/tiny/fedit/seed-0") in line


def test_a_dry_run_checks_methods_that_learn_beside_one_that_does_not(file: Path) -> None:
    file.write_text(TWO_SITES.replace("environment: maze}", "environment: maze, train_split: test}"))
    result = cli("suite", "run", file, "--dry-run")
    assert result.exit_code == 2
    assert "fed-se: " in result.stderr
    assert "pre-trained: " not in result.stderr


def test_a_dry_run_finds_what_could_not_begin(file: Path) -> None:
    file.write_text(TWO_SITES.replace("fedit,", "{name: odd, set: {method.strategy: median-of-means}},"))
    result = cli("suite", "run", file, "--dry-run")
    assert result.exit_code == 2
    assert "odd: there is no strategy 'median-of-means'" in result.stderr


def test_a_finished_suite_prints_its_table(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def work(made: Suite, folder: Path, *, listener: SuiteListener, **options: Any) -> SuiteResults:
        seen.update(options, suite=made, folder=folder)
        return read_suite(folder)

    instead_of_running(monkeypatch, work)
    result = cli("suite", "run", "--resume", "--out", root, "--jobs", "3", "--reuse", "one", "--reuse", "two")
    assert result.exit_code == 0
    assert seen == {"suite": MADE, "folder": root, "resume": True, "jobs": 3, "reuse": [Path("one"), Path("two")]}
    assert "Methods" in result.stdout
    assert "Ablations" in result.stdout
    assert "difference to Fed-SE" in result.stdout
    where = f"\nThe suite is in {root}, this table in {root / 'table.md'} and {root / 'table.csv'}\n"
    assert result.stdout == cli("suite", "table", root).stdout + where, "which writes none"


def test_a_table_in_a_pipe_is_not_cut_off(root: Path) -> None:
    command = [sys.executable, "-m", "fedse", "suite", "table", str(root)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert "…" not in printed
    [heads, *_] = [line for line in printed.splitlines() if line.startswith("method ")]
    assert heads.split("  ")[0] == "method"
    assert heads.endswith("difference to Fed-SE")


def test_a_suite_with_a_failure_says_so_and_ends_with_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "cells/tiny/fedit/seed-1/server/metrics.jsonl").unlink()
    fail(cell(MADE, "fedit", 1), root, "the disk [sda] is full\n  → free some")
    instead_of_running(monkeypatch, lambda *_, **__: read_suite(root))
    result = cli("suite", "run", "--resume", "--out", root, "--quiet")
    assert result.exit_code == 1
    assert "1/2, 1 failed" in result.stdout
    assert "seed 1 failed: the disk [sda] is full" in result.stdout
    assert f"fedse suite run --resume --out {root}" in result.stderr


def test_a_method_that_would_take_the_place_of_runs_that_are_there_is_told_where_to_stand(root: Path) -> None:
    new = "{method: fedit, name: again}"
    file = root.with_name("more.yaml")
    file.write_text(TWO_SITES.replace("fedit,", f"{new}, fedit,"))
    for words in ([], ["--dry-run"]):
        result = cli("suite", "run", file, "--resume", "--out", root, *words)
        assert result.exit_code == 1
        assert "has runs of fedit, before which the suite has again of the same configuration" in result.stderr
        assert "put again after fedit" in result.stderr
    file.write_text(TWO_SITES.replace("fedit,", f"fedit, {new},"))
    result = cli("suite", "run", file, "--resume", "--out", root, "--dry-run")
    assert "the run of fedit" in result.stdout


def test_an_interrupted_suite_says_how_to_go_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any, **__: Any) -> SuiteResults:
        raise KeyboardInterrupt

    instead_of_running(monkeypatch, work)
    result = cli("suite", "run", "--resume", "--out", root, "--quiet")
    assert result.exit_code == 130
    assert f"fedse suite run --resume --out {root}" in result.stderr


@pytest.mark.parametrize("words", [[], ["--resume"], ["--resume", "--out", "nowhere"]])
def test_a_run_without_a_suite_is_refused(words: list[str]) -> None:
    result = cli("suite", "run", *words)
    assert result.exit_code == 2
    assert "name one (" in result.stderr


def test_a_packed_suite_has_the_same_table_without_the_weights(root: Path, tmp_path: Path) -> None:
    done = [found for found in read_suite(root).cells if found.records]
    assert done, "the fixture was expected to have finished runs"
    weights = done[0].folder / "rounds" / "001" / "global" / "adapter_model.safetensors"
    private = done[0].folder / "clients" / "west" / "experience.sqlite"
    for path in (weights, private):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    packed = tmp_path / "packed"
    told = cli("suite", "pack", root, "-o", packed)
    assert told.exit_code == 0, told.output
    assert not [path for path in packed.rglob("*") if path.name in (weights.name, private.name)]
    shown = [cli("suite", "table", folder).stdout for folder in (root, packed)]
    assert shown[0] == shown[1]
    again = cli("suite", "pack", root, "-o", packed)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_a_suite_without_a_finished_run_is_not_packed(tmp_path: Path) -> None:
    begin(MADE, tmp_path / "suite")
    told = cli("suite", "pack", tmp_path / "suite", "-o", tmp_path / "packed")
    assert told.exit_code == 1
    assert "no run of" in told.stderr
    assert not (tmp_path / "packed").exists()


def test_the_live_table_fills_as_cells_complete_and_tells_what_runs(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    with suite_live.shown(read_suite(tmp_path), quiet=True) as progress:
        done, failed, running = cell(MADE, "fed-se", 0), cell(MADE, "fedit", 0), cell(MADE, "local", 0)
        for found in (done, failed, running):
            progress(SuiteEvent(Step.STARTED, found))
        finish(done, tmp_path, VERDICTS)
        progress(SuiteEvent(Step.DONE, done, result=read_cell(done, tmp_path)))
        fail(failed, tmp_path, "it [broke]\n  → mend it")
        progress(SuiteEvent(Step.FAILED, failed, result=read_cell(failed, tmp_path)))
        progress(SuiteEvent(Step.PROGRESS, running, progress=Event(Phase.TRAIN, 1, "west", 3, 8)))
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(suite_live.live_table(progress))  # type: ignore[arg-type]
    lines = console.export_text().splitlines()
    [row] = [line.split() for line in lines if line.startswith("Fed-SE")]
    assert row[1:] == ["1/2", "50", "%", "0", "%", "25", "%"]
    [shared] = [line.split() for line in lines if line.startswith("rank 8")]
    assert shared[2:] == row[1:]
    assert "seed 0: round 1/1 west train 3/8" in next(line for line in lines if line.startswith("Local"))
    assert "seed 0: failed, it [broke]" in next(line for line in lines if line.startswith("FedIT"))
    assert any(line.startswith("1 of 10 runs done, 1 failed, ") for line in lines)


def test_without_a_terminal_there_is_a_line_for_every_beginning_and_end(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    console = Console(width=200, file=io.StringIO(), record=True)
    found = cell(MADE, "fedit", 1)
    with suite_live.shown(read_suite(tmp_path), quiet=False, console=console) as listener:
        listener(SuiteEvent(Step.STARTED, found))
        listener(SuiteEvent(Step.PROGRESS, found, progress=Event(Phase.TRAIN, 1, "west", 3, 8)))
        finish(found, tmp_path, VERDICTS)
        listener(SuiteEvent(Step.DONE, found, result=read_cell(found, tmp_path)))
    started, done = console.export_text().splitlines()
    assert started.startswith("tiny/fedit/seed-1: started  (0 of 10 runs done, ")
    assert done.startswith("tiny/fedit/seed-1: done, mean of environments 25 %  (1 of 10 runs done, ")
