"""Whole runs whose episodes are played on an inference server, as users begin and resume them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedse.experience.trajectory_files import read_trajectories
from fedse.runs.layout import RunFolder
from fedse.settings import load_config
from fedse.types import StopReason, Trajectory
from helpers.cli_calls import Cli
from helpers.endpoint_server import EndpointServer

TINY = ("run", "--preset", "tiny", "--set", "model.device=cpu")


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with EndpointServer() as running:
        yield running


def played(folder: Path) -> list[tuple[str, list[Trajectory]]]:
    """Every evaluation and exploration of a run."""
    run, config = RunFolder(folder), load_config("tiny", None, [])
    found = []
    for client in config.clients:
        place = run.environment(client)
        for number in range(config.rounds + 1):
            found.append((f"{client.name} evaluation {number}", read_trajectories(place.evaluation(number))))
            if number:
                found.append((f"{client.name} exploration {number}", read_trajectories(place.trajectories(number))))
    return found


@pytest.mark.long
def test_a_run_on_an_endpoint_survives_its_restart_and_can_be_resumed_without_it(
    cli: Cli, server: EndpointServer, tmp_path: Path
) -> None:
    here, there, elsewhere = tmp_path / "here", tmp_path / "there", tmp_path / "elsewhere"
    on_it = ("--set", f"rollout.endpoint.url={server.url}")
    assert cli(*TINY, "--out", here).exit_code == 0

    def restart() -> None:
        server.kill()
        time.sleep(1.0)
        server.start()

    restarting = threading.Thread(target=restart)
    server.on_reply = lambda number: restarting.start() if number == 60 else None
    result = cli(*TINY, *on_it, "--out", there)
    restarting.join()
    assert result.exit_code == 0, result.stderr
    assert "waits for the endpoint" in result.stderr
    first = dict(played(here))
    for name, episodes in played(there):
        assert all(one.stop is not StopReason.ERROR for one in episodes)
        if name.endswith("evaluation 0"):  # greedy, with the same adapter
            assert episodes == first[name]
        if "exploration" in name:
            assert all(one.tokens and one.tokens.logprobs for one in episodes)
    gc.collect()
    assert not list((there / "endpoint").iterdir())
    assert not server.loaded

    # Away for good: the run stops, and goes on here.
    server.on_reply = lambda number: server.faults.extend([503] * 10_000) if len(server.told) > 0 else None
    result = cli(*TINY, *on_it, "--set", "rollout.endpoint.patience=0.5", "--out", elsewhere)
    assert result.exit_code == 1
    assert "gave no reply for 0.5 seconds" in result.stderr
    assert "resume" in result.stderr
    result = cli("run", "--resume", "--out", elsewhere, "--set", "rollout.endpoint.url=null")
    assert result.exit_code == 0, result.stderr
    assert [name for name, episodes in played(elsewhere) if episodes != first[name]] == []


def test_an_address_that_is_none_is_told_at_once(cli: Cli, tmp_path: Path) -> None:
    result = cli(*TINY, "--set", "rollout.endpoint.url=localhost:8000", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "rollout.endpoint.url" in result.stderr
    assert "http://host:port" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_key_comes_from_the_environment_and_goes_into_no_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EndpointServer(key="very-secret") as server:
        settings = ("--set", f"rollout.endpoint.url={server.url}", "--set", "rollout.endpoint.api_key_env=MY_KEY")
        begun = (*TINY, *settings, "--set", "rounds=0", "--out", tmp_path / "run")
        result = cli(*begun)
        assert result.exit_code == 2
        assert "the environment variable MY_KEY" in result.stderr
        monkeypatch.setenv("MY_KEY", "very-secret")
        result = cli(*begun, "--resume")
        assert result.exit_code == 0, result.stderr
    assert all(b"very-secret" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
