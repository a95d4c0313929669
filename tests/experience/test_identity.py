from dataclasses import replace

import pytest

from fedse.experience import AddReport, ExperienceStore, task_and_actions
from fedse.types import TokenRecord, Trajectory
from helpers.made_episodes import episode


def test_thoughts_make_no_other_episode_and_actions_and_tasks_do():
    assert task_and_actions(episode(1)) == task_and_actions(episode(1, thought="Or so."))
    assert task_and_actions(episode(1)) != task_and_actions(episode(4))
    longer = replace(episode(1), turns=episode(1).turns * 2)
    assert task_and_actions(episode(1)) != task_and_actions(longer)


def test_a_store_may_have_an_identity_of_its_own(tmp_path):
    def by_words(trajectory: Trajectory) -> str:
        return repr(trajectory.turns)

    with ExperienceStore(tmp_path / "store", identity=by_words) as store:
        episodes = [episode(1), episode(1, thought="Or so."), episode(1)]
        assert store.add(episodes) == AddReport(2, 1)
        assert store.trajectories() == episodes[:2]


def test_log_probabilities_come_back_and_leave_no_trace_where_there_are_none():
    plain = episode(1)
    assert list(plain.to_json()["tokens"]) == ["ids", "spans", "tokenizer"]
    assert plain.tokens is not None
    told = replace(plain, tokens=replace(plain.tokens, logprobs=(-0.5, -0.25, 0.0, -1.0, -2.0)))
    assert Trajectory.from_json(told.to_json()) == told != plain
    with pytest.raises(ValueError, match="1 log-probabilities for 2 tokens of the agent"):
        TokenRecord((1, 2, 3), ((1, 3),), "t", logprobs=(-0.5,))
