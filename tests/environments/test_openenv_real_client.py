"""OpenEnv's own client plays on our server as one plays in process; its validator finds nothing to complain about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedse.environments import make
from helpers.openenv_installed import run_client
from helpers.served_environments import served

pytestmark = pytest.mark.long

PLAY = """
import json, sys
from openenv.core.generic_client import GenericEnvClient
address, plans = sys.argv[1], json.loads(sys.argv[2])
told = []
with GenericEnvClient(base_url=address).sync() as client:
    for task, actions in plans:
        first = client.reset(task=task, episode_id="episode-1")
        told.append([first.observation["text"], first.reward, first.done])
        for action in actions:
            result = client.step({"message": action})
            told.append([result.observation["text"], result.reward, result.done, result.observation["metadata"]])
        state = client.state()
        told.append([state["episode_id"], state["step_count"], state["task"], state["success"]])
print(json.dumps(told))
"""
VALIDATE = """
import json, sys
from openenv.cli._validation import validate_running_environment
report = validate_running_environment(sys.argv[1])
print(json.dumps(report))
"""
OPTIONS: dict[str, dict[str, Any]] = {"wordle": {"size": 20}}


def played_here(name: str, number: int) -> tuple[str, list[str], list[Any]]:
    """Task, the expert's actions, and all that is told."""
    environment = make(name, **OPTIONS.get(name, {}))
    task = environment.tasks("test")[number]
    seen = environment.reset(task)
    actions: list[str] = []
    told: list[Any] = [[seen, None, False]]
    expert = environment.expert(0)
    for _ in range(environment.spec.max_turns):
        actions.append(expert.act(seen)[1])
        result = environment.step(actions[-1])
        success = {"success": result.reward > environment.spec.success_above, "truncated": False}
        told.append([result.observation, result.reward, result.done, success if result.done else {}])
        seen = result.observation
        if result.done:
            break
    told.append(["episode-1", len(actions), task.id, result.reward > environment.spec.success_above])
    return task.id, actions, told


@pytest.mark.parametrize("name", ["babyai", "maze", "textcraft", "webshop", "wordle"])
def test_whole_episodes_are_step_by_step_those_in_process(name: str) -> None:
    plans, expected = [], []
    for number in (3, 5):
        task, actions, told = played_here(name, number)
        plans.append([task, actions])
        expected += told
    assert any(isinstance(line[-1], dict) and line[-1].get("success") for line in expected)
    with served(name, protocol="openenv", **OPTIONS.get(name, {})) as address:
        said = run_client(PLAY, address.removeprefix("openenv:"), json.dumps(plans))
    assert json.loads(said) == expected


def test_the_validator_passes() -> None:
    with served("maze", protocol="openenv") as address:
        report = json.loads(run_client(VALIDATE, address.removeprefix("openenv:")))
    assert report["passed"] is True, report
