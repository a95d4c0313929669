"""OpenEnv's own client plays on our server as one plays in process; its validator finds nothing to complain about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedse.environments import make
from helpers.openenv_installed import package_folder, run_client
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


TRL = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("openenv_trl", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.SERVER = sys.argv[2]
game, told = module.ServedGame(), []
for index, actions in json.loads(sys.argv[3]):
    told.append(game.reset(prompt="ignored", split="test", index=index))
    told += [game.act(action) for action in actions]
    told.append(game.get_reward())
    try:
        game.act("more")
    except ValueError:
        told.append("over")
print(json.dumps(told))
"""


def test_the_class_for_trl_plays_as_its_trainer_calls_it() -> None:
    plans, expected = [], []
    rules = make("maze").instruction("full")
    for number in (3, 5):
        _, actions, told = played_here("maze", number)
        plans.append([number, actions])
        expected += [f"{rules}\n\n{told[0][0]}", *[step[0] for step in told[1:-1]], 1.0, "over"]
    script = str(Path(__file__).parents[2] / "examples" / "openenv_trl.py")
    with served("maze", protocol="openenv") as address:
        said = run_client(TRL, script, address.removeprefix("openenv:"), json.dumps(plans))
    assert json.loads(said) == expected


VERIFIERS = """
import asyncio, json, sys, types
from pydantic import BaseModel

def stand_in(name, **content):
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(content)

class Task(BaseModel): pass
class Generic:
    def __class_getitem__(cls, _): return cls
class Config(BaseModel): pass
stand_in("verifiers"); sys.modules["verifiers"].__path__ = []
names = {name: type(name, (BaseModel,), {}) for name in ("TaskData", "TasksetConfig", "EnvConfig", "AgentConfig")}
stand_in("verifiers.v1", Task=Generic, Env=Generic, Taskset=Generic, **names)
source = open(sys.argv[1]).read()
taskset = types.ModuleType("taskset"); sys.modules["taskset"] = taskset
exec(compile(source, sys.argv[1], "exec"), vars(taskset))

class Interaction:
    # An agent that knows what to say, and what it was shown.
    def __init__(self, replies):
        self.replies, self.shown, self.rewards, self.trace = list(replies), [], {}, self
    async def __aenter__(self): return self
    async def __aexit__(self, *_): pass
    async def turn(self, text):
        self.shown.append(json.loads(text))
        return types.SimpleNamespace(terminated=False, last_reply=self.replies.pop(0))
    def record_reward(self, name, value): self.rewards[name] = value

told = []
for task, replies in json.loads(sys.argv[3]):
    given = {"env": None, "base_url": sys.argv[2], "use_docker": False, "provider_kwargs": {}}
    data = taskset.OpenEnvData(**given, reset={"task": task})
    interaction = Interaction(replies)
    agents = types.SimpleNamespace(player=types.SimpleNamespace(interaction=lambda _: interaction))
    asyncio.run(taskset.OpenEnvEnv().run(types.SimpleNamespace(data=data), agents))
    told.append([[shown["observation"]["text"] for shown in interaction.shown], interaction.rewards["openenv_reward"]])
print(json.dumps(told))
"""


def test_the_taskset_of_verifiers_plays_whole_episodes() -> None:
    plans, expected = [], []
    for number in (3, 5):
        task, actions, told = played_here("maze", number)
        # As a model may write it: plain, or as an object in a fence.
        fenced = "```json\n" + json.dumps({"message": actions[0]}) + "\n```"
        plans.append([task, [fenced, *actions[1:]]])
        expected.append([[step[0] for step in told[:-2]], 1.0])
    script = package_folder("verifiers", "0.4.0") / "verifiers" / "v1" / "tasksets" / "openenv" / "taskset.py"
    with served("maze", protocol="openenv") as address:
        said = run_client(VERIFIERS, str(script), address.removeprefix("openenv:"), json.dumps(plans))
    assert json.loads(said) == expected
