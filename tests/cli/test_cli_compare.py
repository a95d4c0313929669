from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedse.runs.layout import RunFolder
from helpers.cli_calls import Cli


def test_a_run_does_not_differ_from_itself(cli: Cli, run_folder: Path) -> None:
    result = cli("compare", run_folder, "against", run_folder)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert f"A: mini ({run_folder}), round 2" in lines
    row = next(line for line in lines if line.startswith("wordle"))
    assert row.split() == [
        "wordle",
        "0.0",
        "%",
        "0.0",
        "%",
        "+0.0",
        "[+0.0,",
        "+0.0]",
        "0/0",
        "0",
        "%",
        "1.000",
        "1.000",
        "2",
    ]
    assert any(line.startswith("mean of environments") for line in lines)
    assert any("not the training" in line for line in lines)


def test_runs_of_one_name_are_told_apart_by_their_folders(cli: Cli, run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "other")
    lines = cli("compare", run_folder, "against", tmp_path / "other").stdout.splitlines()
    assert lines[:2] == [f"A: mini ({run_folder}), round 2", f"B: mini ({tmp_path / 'other'}), round 2"]
    config = RunFolder(tmp_path / "other").server.config
    config.write_text(config.read_text().replace("name: mini", "name: mine", 1))
    lines = cli("compare", run_folder, "against", tmp_path / "other").stdout.splitlines()
    assert lines[:2] == ["A: mini, round 2", "B: mine, round 2"]


def test_two_methods_must_be_told_apart(cli: Cli, run_folder: Path) -> None:
    for words in ([run_folder], ["against", run_folder], [run_folder, "against", run_folder, "against", run_folder]):
        result = cli("compare", *words)
        assert result.exit_code == 2
        assert "the word 'against'" in result.stderr


def test_the_same_run_twice_is_no_second_seed(cli: Cli, run_folder: Path) -> None:
    result = cli("compare", run_folder, run_folder, "against", run_folder)
    assert result.exit_code == 1
    assert "one run per training seed" in result.stderr


def test_power_shows_designs(cli: Cli) -> None:
    lines = cli("power", "10", "--rate", "65", "--discordance", "20").stdout.splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["paired,", "20", "%", "of", "tasks", "solved", "by", "one", "method", "only", "155"],
        ["unpaired,", "from", "65", "%", "to", "75", "%", "2", "×", "329"],
    ]


def test_power_leaves_out_designs_that_cannot_be(cli: Cli) -> None:
    output = cli("power", "25").stdout
    assert "paired, 30 %" in output
    assert "paired, 20 %" not in output
    assert "from 80 %" not in output
    assert cli("power", "25", "--discordance", "20").exit_code == 2


@pytest.mark.parametrize(
    ("gain", "complaint"),
    [("60", "name one: --rate"), ("nan", "above 0 and up to 100"), ("0", "above 0"), ("101", "up to 100")],
)
def test_a_difference_that_no_design_shows_is_refused(cli: Cli, gain: str, complaint: str) -> None:
    result = cli("power", gain)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""


def test_a_large_difference_is_planned_where_the_design_is_named(cli: Cli) -> None:
    assert "from 20 % to 80 %" in cli("power", "60", "--rate", "20").stdout
