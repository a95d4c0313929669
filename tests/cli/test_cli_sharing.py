"""Runs whose sites are isolated, pooled, or only evaluated, at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result

from fedse.cli.results import show_result
from fedse.config import EvaluationConfig
from fedse.experience.trajectory_files import read_trajectories
from fedse.runs.layout import RunFolder
from fedse.types import RoundRecord, SuccessRate
from helpers.cli_calls import Cli

SITES = (
    "[{name: east, environment: wordle, demonstrations: 2, episodes_per_round: 2}, "
    "{name: west, environment: maze, demonstrations: 2, episodes_per_round: 2}]"
)


@pytest.fixture(scope="module")
def isolated(cli: Cli, config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a run with two isolated sites, and what ``fedse run`` printed."""
    folder = tmp_path_factory.mktemp("runs") / "isolated"
    settings = ["--set", f"clients={SITES}", "--set", "method.strategy=isolated", "--set", "rounds=1"]
    return folder, cli("run", "--config", config_file, *settings, "--out", folder)


def test_an_isolated_run_shows_transfer_and_where_the_adapters_are(isolated: tuple[Path, Result]) -> None:
    folder, result = isolated
    assert result.exit_code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "adapter of wordle maze" in lines
    assert {"east 0 % 0 %", "west 0 % 0 %"} <= set(lines)
    assert f"{folder}/server/rounds/001/adapters, one for each site" in result.stdout
    assert f"fedse eval {folder} --client east" in result.stdout
    assert "adapter of east" in result.stderr


def test_a_site_of_it_is_evaluated_by_name(cli: Cli, isolated: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = isolated
    layout = RunFolder(folder)
    for name, environment, recorded in (
        ("east", "wordle", layout.site("east").environment("east").evaluation(1)),
        ("west", "wordle", layout.site("east").environment("east").evaluation(1, "west")),
    ):
        file = tmp_path / f"{name}.jsonl.gz"
        result = cli("eval", folder, "--client", name, "--env", environment, "--episodes-to", file)
        assert result.exit_code == 0, result.stderr
        assert f"site {name}, round 1" in result.stdout
        tokens = [[episode.tokens for episode in read_trajectories(path)] for path in (file, recorded)]
        assert tokens[0] == tokens[1]


def test_the_round_before_the_first_is_that_of_all_sites(cli: Cli, isolated: tuple[Path, Result]) -> None:
    result = cli("eval", isolated[0], "--client", "east", "--env", "wordle", "--round", "0", "--tasks", "1")
    assert result.exit_code == 0, result.stderr
    assert "rounds 0 to 1" in cli("eval", isolated[0], "--client", "east", "--round", "7").stderr


@pytest.mark.parametrize(("words", "mend"), [([], "--client: east, west"), (["--client", "est"], "did you mean")])
def test_whose_adapter_must_be_said(cli: Cli, isolated: tuple[Path, Result], words: list[str], mend: str) -> None:
    result = cli("eval", isolated[0], *words)
    assert result.exit_code == 2
    assert mend in result.stderr


def test_a_site_cannot_be_named_where_all_have_one_adapter(cli: Cli, run_folder: Path) -> None:
    result = cli("eval", run_folder, "--client", "site")
    assert result.exit_code == 2
    assert "leave --client out" in result.stderr
    single = cli("eval", RunFolder(run_folder).server.global_adapter(1), "--client", "site")
    assert "no sites" in single.stderr


def test_playing_takes_the_adapter_of_the_site_with_the_environment(cli: Cli, isolated: tuple[Path, Result]) -> None:
    folder, _ = isolated
    recorded = read_trajectories(RunFolder(folder).site("east").environment("east").evaluation(1))[0]
    words = ["play", "wordle", "--who", "model", "--adapter", folder, "--task", recorded.task.id]
    found = cli(*words)
    assert found.exit_code == 0, found.stderr
    assert found.stdout == cli(*words, "--client", "east").stdout
    elsewhere = cli("play", "textcraft", "--who", "model", "--adapter", folder)
    assert "--client: east, west" in elsewhere.stderr


def test_diagnosing_shows_experience_and_the_recorded_transfer(cli: Cli, isolated: tuple[Path, Result]) -> None:
    result = cli("diagnose", isolated[0], "--transfer")
    assert result.exit_code == 0, result.stderr
    assert "no updates to compare" in result.stdout
    assert "Experience" in result.stdout
    assert any(line.startswith("client west") and line.count("[") == 2 for line in result.stdout.splitlines())


def test_a_run_without_rounds_shows_what_the_base_model_does(cli: Cli, config_file: Path, tmp_path: Path) -> None:
    result = cli("run", "--config", config_file, "--set", "rounds=0", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert "round 0, with" in result.stdout
    assert "after" not in result.stdout.split("The run is in")[0]
    assert f"fedse view {tmp_path / 'run'} --evaluation" in result.stdout
    assert cli("view", tmp_path / "run", "--evaluation").exit_code == 0
    assert cli("eval", tmp_path / "run", "--tasks", "1").exit_code == 0
    assert "rounds: 0" in cli("diagnose", tmp_path / "run").stderr


def test_a_pooled_run_is_evaluated_and_diagnosed(cli: Cli, config_file: Path, tmp_path: Path) -> None:
    words = ["--set", "clients.*.site=all", "--set", "rounds=1", "--out", tmp_path / "run"]
    assert cli("run", "--config", config_file, *words).exit_code == 0
    assert cli("eval", tmp_path / "run", "--tasks", "1").exit_code == 0
    result = cli("diagnose", tmp_path / "run", "--transfer", "--tasks", "1")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines() if "[" in line] == ["before", "client", "after"]


def test_updates_that_came_to_nothing_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"maze": SuccessRate(1, 2, 0, 0.1, 0.9)}
    lost = {"outcome": "diverged", "train": {"diverged": "step 2 of 8: the loss is nan"}}
    records = [
        RoundRecord(0, {"west": {}}, rates, "", {}),
        RoundRecord(1, {"west": lost, "east": {"outcome": "ok"}}, {}, "", {}),
        RoundRecord(2, {"west": {"outcome": "missing"}}, rates, "", {}),
    ]
    show_result(records, EvaluationConfig())
    shown = " ".join(capsys.readouterr().out.split())
    assert "west: 2 of 2 updates came to nothing; in round 1: diverged: step 2 of 8: the loss is nan" in shown
    assert "east:" not in shown


def test_an_environment_whose_site_was_away_has_no_rate_and_enters_no_mean(capsys: pytest.CaptureFixture[str]) -> None:
    half, most = SuccessRate(1, 2, 0, 0.1, 0.9), SuccessRate(3, 4, 0, 0.3, 0.9)
    maze, both = {"maze": half}, {"maze": half, "wordle": most}
    records = [RoundRecord(at, {}, rates, "", {}) for at, rates in enumerate((maze, both, maze))]
    show_result(records, EvaluationConfig())
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "maze 50 % [10–90] 50 % [10–90] 2 ▅▅▅" in shown
    assert "wordle – – 0 ·▇·" in shown
    assert "mean of environments – – ·▆·" in shown
    assert "mean of tasks – – ·▆·" in shown


@pytest.mark.parametrize(
    ("settings", "heading"),
    [
        (EvaluationConfig(decoding="sampled", samples=3), "episodes"),
        (EvaluationConfig(decoding="sampled"), "tasks"),
        (EvaluationConfig(samples=3), "tasks"),  # greedy decoding plays each task once
    ],
)
def test_episodes_are_not_called_tasks_where_a_task_has_several(
    capsys: pytest.CaptureFixture[str], settings: EvaluationConfig, heading: str
) -> None:
    show_result([RoundRecord(0, {}, {"maze": SuccessRate(60, 120, 0, 0.4, 0.6)}, "", {})], settings)
    shown = capsys.readouterr().out
    assert f" {heading} " in shown
    assert ("as independent" in shown) == (heading == "episodes")
