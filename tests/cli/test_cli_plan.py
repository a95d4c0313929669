from __future__ import annotations

from pathlib import Path

import pytest

from fedse.settings import load_config
from helpers.cli_calls import Cli


def test_a_plan_says_what_fits_and_what_to_change(cli: Cli) -> None:
    result = cli("plan", "--preset", "paper-qwen2.5-7b")
    assert result.exit_code == 0, result.output
    assert "7.62 billion parameters in bfloat16 on one GPU" in result.stdout
    assert "24 GB: does not fit\n  → " in result.stdout
    assert "80 GB: fits" in result.stdout
    assert "The host needs 15." in result.stdout
    assert "Not counted: " in result.stdout
    assert "Not counted: Python" in result.stdout


def test_a_plan_takes_a_method_overrides_and_sizes(cli: Cli) -> None:
    result = cli("plan", "-p", "tiny", "-m", "rank-2", "-s", "workers=3", "--memory", "0.1", "--memory", "10")
    assert result.exit_code == 0, result.output
    assert "an adapter of rank 2" in result.stdout
    assert "3 workers in their larger phase" in result.stdout
    assert "0.1 GB: does not fit" in result.stdout
    assert "\n10 GB: fits" in result.stdout


def test_a_plan_of_nothing_is_refused(cli: Cli) -> None:
    result = cli("plan")
    assert result.exit_code == 2
    assert "name one: --preset NAME" in result.output


def test_a_dry_run_checks_sites_and_memory_beside_the_configuration(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", "--preset", "tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    (tmp_path / "resolved.yaml").write_text(result.stdout)
    assert load_config(None, tmp_path / "resolved.yaml", []) == load_config("tiny", None, [])
    assert "training" in result.stderr
    assert "24 GB: fits" in result.stderr
    assert cli("run", "--preset", "tiny", "--dry-run", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clients.maze.environment=mase", "did you mean maze"),
        ("clients.maze.train_split=trian", "trian"),
        ("method.strategy=median", "median"),
        ("lora.target_modules=[c_attn]", "target module 'c_attn' cannot be adapted"),
    ],
)
def test_a_dry_run_finds_what_could_not_begin(cli: Cli, override: str, message: str) -> None:
    result = cli("run", "--preset", "tiny", "--dry-run", "--set", override)
    assert result.exit_code != 0
    assert message in result.stderr
