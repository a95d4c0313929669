"""A site whose environment is on an OpenEnv server: the server may be restarted, and no game is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fedse.config import RunConfig
from fedse.environments import connection
from fedse.environments.base import StepResult
from fedse.environments.openenv.client import OpenEnvEnvironment
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.run import run
from fedse.progress import Event, Phase
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.types import StopReason, Trajectory
from helpers.served_environments import served
from helpers.toy_runs import adapters, toy_client, toy_config

pytestmark = [pytest.mark.usefixtures("toy"), pytest.mark.long]


class Restarted:
    """A server that can be stopped and started anew at the same address."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self.name = self._running.enter_context(served("toy", protocol="openenv"))

    def restart(self) -> None:
        self.stop()
        self._running.enter_context(served("toy", protocol="openenv", port=int(self.name.rpartition(":")[2])))

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def server(toy: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Restarted]:
    monkeypatch.setattr(connection, "_BACKOFF", 0.05)
    running = Restarted()
    yield running
    running.stop()


def config_on(server: Restarted) -> RunConfig:
    # Two episodes at a time, so that a restart meets some of a round's and not all.
    remote = toy_client("remote", environment=server.name, episodes_per_round=6)
    return toy_config(remote, toy_client("here"), rollout={"slots": 2})


def explored(folder: Path, number: int) -> list[Trajectory]:
    return read_trajectories(RunFolder(folder).site("remote").environment("remote").trajectories(number))


def test_a_restart_between_episodes_changes_nothing(server: Restarted, tmp_path: Path) -> None:
    config = config_on(server)
    run(config, tmp_path / "undisturbed")
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        if event.phase is Phase.TRAIN and event.client == "remote" and event.done == 1:
            server.restart()

    run(config, tmp_path / "restarted", listener=listen)
    assert any(event.phase is Phase.TRAIN for event in told)
    assert adapters(tmp_path / "restarted", config) == adapters(tmp_path / "undisturbed", config)


def test_a_restart_in_mid_round_is_a_fault_and_no_lost_game(
    server: Restarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_on(server)
    run(config, tmp_path / "undisturbed")
    expected = {(one.task, one.seed): one for one in explored(tmp_path / "undisturbed", 1)}
    original: Callable[[Any, str], StepResult] = OpenEnvEnvironment.step
    steps: list[str] = []
    exploring = False

    def listen(event: Event) -> None:
        nonlocal exploring
        exploring = event.phase is Phase.EXPLORE and event.round == 1

    def step(self: Any, action: str) -> StepResult:
        if exploring:
            steps.append(action)
            if len(steps) == 2:
                server.restart()
        return original(self, action)

    monkeypatch.setattr(OpenEnvEnvironment, "step", step)
    run(config, tmp_path / "restarted", listener=listen)
    monkeypatch.undo()
    played = explored(tmp_path / "restarted", 1)
    lost = [one for one in played if one.stop is StopReason.ERROR]
    assert lost
    assert all(one.success is None for one in lost)
    for one in played:
        assert one in lost or one == expected[one.task, one.seed]
    record = read_records(RunFolder(tmp_path / "restarted").server)[1]
    assert record.clients["remote"]["explore"]["errors"] == len(lost)
