from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedse.experience.agenttraj import read_agenttraj
from helpers.cli_calls import Cli


def test_an_expert_writes_demonstrations(cli: Cli, tmp_path: Path) -> None:
    result = cli("demos", "wordle", "-n", "5", "-o", tmp_path / "a.json", "--option", "size=20", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "5 episodes of 5 tasks" in result.stdout
    conversations = read_agenttraj(tmp_path / "a.json")
    assert len(conversations) == 5
    assert conversations[0].item_id.startswith("wordle_")
    assert "abandon" not in conversations[0].messages[0].content
    cli("demos", "wordle", "-n", "5", "-o", tmp_path / "b.json", "--option", "size=20", "--seed", "3", "--quiet")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_file_is_imported_with_a_count_of_what_was_confirmed(cli: Cli, tmp_path: Path) -> None:
    cli("demos", "maze", "-n", "3", "-o", tmp_path / "made.json", "--quiet")
    items = json.loads((tmp_path / "made.json").read_text())
    items[1]["conversations"] = items[1]["conversations"][:-2]
    (tmp_path / "given.json").write_text(json.dumps(items))
    result = cli("demos", "maze", "--import", tmp_path / "given.json", "-o", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "2 of 3 episodes confirmed" in result.stdout
    assert "1 ends before a success" in result.stdout
    assert json.loads((tmp_path / "out.json").read_text())[0]["item_id"] == items[0]["item_id"]


def test_what_cannot_be_done_is_said(cli: Cli, tmp_path: Path) -> None:
    missing = cli("demos", "maze", "--import", tmp_path / "none.json", "-o", tmp_path / "out.json")
    assert missing.exit_code == 1
    assert "none.json" in missing.stderr
    assert cli("demos", "mase", "-o", tmp_path / "out.json").exit_code == 2
    assert cli("demos", "maze", "-o", tmp_path / "out.json", "--option", "max_path").exit_code == 2
    assert not (tmp_path / "out.json").exists()


def test_the_catalogue_tells_tasks_limits_and_options(cli: Cli) -> None:
    listed = cli("env", "ls").stdout
    assert "2,000 train, 500 test, 215 paper-train, 25 paper-test" in listed
    assert "15 turns, with an expert" in listed
    assert "max_path=12, layout=random, only=null, parity=false" in listed


def test_a_folder_is_no_file_to_write(
    cli: Cli, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["demos", "maze", "-n", "1", "-o", "."], ["diagnose", run_folder, "--csv", "."]):
        result = cli(*words)
        assert result.exit_code == 1
        assert "cannot write ." in result.stderr
