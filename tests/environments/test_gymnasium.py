"""Every environment is a Gymnasium environment, by Gymnasium's own check."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from fedse.environments import environment_names, make
from fedse.environments.gymnasium import CHARACTERS, MAX_OBSERVATION, _shown, register
from fedse.environments.registry import class_names, environment_class
from fedse.errors import EnvironmentFault


def test_all_environments_are_registered_under_the_names_of_their_classes() -> None:
    register()
    assert sorted(class_names()) == environment_names()
    for name, class_name in class_names().items():
        assert environment_class(name).__name__ == class_name
        assert gymnasium.spec(f"fedse/{class_name}-v0").kwargs == {"name": name}


@pytest.mark.parametrize("name", environment_names())
def test_gymnasiums_own_check_passes(name: str) -> None:
    environment = gymnasium.make(f"fedse/{class_names()[name]}-v0", render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment.unwrapped)
    environment.close()


def test_an_episode_is_the_same_as_without_gymnasium() -> None:
    ours = make("maze")
    task = ours.tasks("test")[0]
    theirs = gymnasium.make("fedse.environments.gymnasium:fedse/Maze-v0", split="test", render_mode="ansi")
    observation, info = theirs.reset(options={"task": task.id})
    assert observation == ours.reset(task) == theirs.render()
    assert info == {"task": task.id, "instruction": ours.instruction("concise")}
    expert, ended = ours.expert(0), False
    while not ended:
        action = expert.act(observation)[1]
        answer = ours.step(action)
        observation, reward, ended, truncated, info = theirs.step(action)
        assert (observation, reward, ended, truncated) == (answer.observation, answer.reward, answer.done, False)
    assert info == {"task": task.id, "success": True}


def test_an_episode_is_truncated_at_the_turn_limit_and_tasks_follow_the_seed() -> None:
    environment = gymnasium.make("fedse/Maze-v0", max_path=12)
    drawn = [environment.reset(seed=seed)[1]["task"] for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    flags = [environment.step("stand still")[2:4] for _ in range(make("maze").spec.max_turns)]
    assert flags == [(False, False)] * (len(flags) - 1) + [(False, True)]


def test_a_step_without_an_episode_is_a_fault() -> None:
    with pytest.raises(EnvironmentFault, match="no open episode"):
        gymnasium.make("fedse/Wordle-v0").unwrapped.step("crane")


def test_any_observation_becomes_a_member_of_the_space() -> None:
    space = gymnasium.make("fedse/Wordle-v0").observation_space
    for text in ("", "plain\n", "Home › Kitchen – “x”", "🧭\ud800\x00", "x" * (MAX_OBSERVATION + 1)):
        assert space.contains(_shown(text))
    assert _shown("Home › Kitchen") == "Home › Kitchen"
    assert {"\n", " ", "~", "é"} <= CHARACTERS


def test_the_documented_code_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "environments" / "serving.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
