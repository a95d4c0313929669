from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import Result

from fedse.federation import run as federation_run
from fedse.progress import Event, Phase
from fedse.settings import load_config
from helpers.cli_calls import Cli


def test_a_run_ends_with_its_result_and_what_to_do_next(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("wordle"))
    assert row.split() == ["wordle", "0", "%", "[0–66]", "0", "%", "[0–66]", "2", "▁▁▁"]
    for word in ("view", "report", "eval"):
        assert f"fedse {word} '{folder}'" in result.stdout
    assert str(folder / "server" / "rounds" / "002" / "global") in result.stdout


def test_progress_goes_to_stderr_one_line_per_phase(finished: tuple[Path, Result]) -> None:
    lines = finished[1].stderr.splitlines()
    for round in ("round 1/2", "round 2/2"):
        for phase in ("explore", "train", "aggregate", "evaluate"):
            assert sum(round in line and f" {phase} " in line for line in lines) == 1


def test_quiet_shows_the_result_only(cli: Cli, finished: tuple[Path, Result], config_file: Path) -> None:
    folder, first = finished
    result = cli("run", "--config", config_file, "--out", folder, "--resume", "--quiet")
    assert result.stderr == ""
    assert result.stdout == first.stdout


def test_a_finished_run_is_not_overwritten(cli: Cli, run_folder: Path, config_file: Path) -> None:
    result = cli("run", "--config", config_file, "--out", run_folder)
    assert result.exit_code == 1
    assert "--resume" in result.stderr


def test_resuming_needs_the_folder_only(cli: Cli, finished: tuple[Path, Result]) -> None:
    folder, first = finished
    result = cli("run", "--resume", "--out", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == first.stdout


def test_dry_run_prints_a_configuration_that_loads(cli: Cli, config_file: Path, tmp_path: Path) -> None:
    result = cli("run", "-c", config_file, "-s", "rounds=7", "-o", tmp_path / "new", "--dry-run")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["rounds"] == 7
    copy = tmp_path / "copy.yaml"
    copy.write_text(result.stdout)
    assert load_config(None, copy, []) == load_config(None, config_file, ["rounds=7"])
    assert not (tmp_path / "new").exists()


def test_without_a_preset_and_a_file_the_quickstart_runs(cli: Cli) -> None:
    result = cli("run", "--dry-run")
    assert yaml.safe_load(result.stdout)["name"] == "quickstart"


def test_the_default_folder_names_the_run_and_its_seed(
    cli: Cli, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def stop(_config: object, folder: Path, **_: object) -> None:
        asked.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(federation_run, "run", stop)
    cli("run", "--config", config_file, "--set", "seed=3")
    assert asked == [Path("runs/mini-seed3")]


def test_an_interrupted_run_says_how_to_go_on(cli: Cli, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_config: object, _folder: Path, *, listener: object, **_: object) -> None:
        listener(Event(Phase.EXPLORE, 1, "site", 1, 2))
        raise KeyboardInterrupt

    monkeypatch.setattr(federation_run, "run", interrupted)
    result = cli("run", "--config", config_file, "--out", "some where")
    assert result.exit_code == 130
    assert "fedse run --resume --out 'some where'" in result.stderr


def test_a_learning_rate_beyond_all_numbers_diverges(cli: Cli, config_file: Path, tmp_path: Path) -> None:
    result = cli(
        "run", "-q", "--config", config_file, "--set", "training.learning_rate=1e300", "--out", tmp_path / "run"
    )
    assert result.exit_code == 1
    assert "site diverged" in result.stderr
    assert "lower training.learning_rate" in result.stderr


def test_a_wrong_key_is_a_usage_error_with_the_nearest_key(cli: Cli, config_file: Path) -> None:
    result = cli("run", "--config", config_file, "--set", "trainin.steps=3")
    assert result.exit_code == 2
    assert "training" in result.stderr
