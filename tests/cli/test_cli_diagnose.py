from __future__ import annotations

import csv
import shutil
from pathlib import Path

from helpers.cli_calls import Cli


def test_rounds_are_shown_and_written(cli: Cli, run_folder: Path, tmp_path: Path) -> None:
    result = cli("diagnose", run_folder, "--csv", tmp_path / "rounds.csv")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["Updates", "of", "the", "clients"]
    assert [line[0] for line in lines[2:4]] == ["1", "2"]
    assert ["1", "site", "2", "2", "0", "2"] in [line[:6] for line in lines]
    rows = list(csv.DictReader((tmp_path / "rounds.csv").open()))
    assert {row["round"] for row in rows} == {"1", "2"}


def test_transfer_plays_the_last_updates(cli: Cli, run_folder: Path) -> None:
    result = cli("diagnose", run_folder, "--transfer", "--tasks", "1")
    assert result.exit_code == 0, result.stderr
    for adapter in ("before", "client site", "after"):
        assert any(line.startswith(adapter) and line.count("[") == 1 for line in result.stdout.splitlines())
        assert f"{adapter} in wordle" in result.stderr


def test_what_cannot_be_diagnosed_is_told(cli: Cli, run_folder: Path, tmp_path: Path) -> None:
    assert cli("diagnose", run_folder, "--tasks", "1").exit_code == 2
    (tmp_path / "server").mkdir()
    shutil.copy(run_folder / "server/config.yaml", tmp_path / "server")
    result = cli("diagnose", tmp_path)
    assert result.exit_code == 1
    assert "no complete round" in result.stderr
