from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fedse.cli.main import app
from helpers.cli_calls import Cli

CONFIG = """
name: mini
rounds: 2
model: {name: tiny}
clients:
  - {name: site, environment: wordle, demonstrations: 2, episodes_per_round: 2}
rollout: {slots: 2, max_turns: 2, max_response_tokens: 8}
training: {steps: 1, batch_size: 2}
evaluation: {tasks: 2}
"""


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Calls ``fedse`` with the given words; ``input`` is what the user types."""
    runner = CliRunner(env={"COLUMNS": "200"})

    def call(*words: str | Path, input: str | None = None) -> Result:
        return runner.invoke(app, [str(word) for word in words], input=input)

    return call


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a run that takes a second."""
    path = tmp_path_factory.mktemp("config") / "mini.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def finished(cli: Cli, config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a finished run, and what ``fedse run`` printed."""
    folder = tmp_path_factory.mktemp("my runs") / "mini-seed0"
    return folder, cli("run", "--config", config_file, "--out", folder)


@pytest.fixture(scope="session")
def run_folder(finished: tuple[Path, Result]) -> Path:
    return finished[0]
