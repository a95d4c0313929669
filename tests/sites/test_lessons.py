"""What a site makes of its own episodes: attempts, objectives and refining, as a run has them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedse.environments.review import Review, Seen
from fedse.experience.credit import Outcomes, advantages
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.run import run
from fedse.learning.examples import Stream
from fedse.progress import Phase
from fedse.sites.environment import SiteEnvironment
from fedse.sites.shared_model import SharedModel
from fedse.sites.task_sampling import exploration_tasks
from fedse.types import Source, Task, Trajectory
from helpers.toy_environment import Toy
from helpers.toy_runs import fingerprint, interrupted, toy_client, toy_config
from helpers.toy_sites import AskedSite, reports

pytestmark = pytest.mark.usefixtures("toy")


def site_after(rounds: int, shared: SharedModel, folder: Path, **changes: Any) -> tuple[AskedSite, SiteEnvironment]:
    client = AskedSite(toy_config(toy_client("alpha", episodes_per_round=12), **changes), shared, folder)
    client.demonstrate()
    for number in range(1, rounds + 1):
        client.round(number, shared.lora.initial_state(1))
    [environment] = client.site._environments.values()
    return client, environment


def played(folder: Path, number: int) -> list[Trajectory]:
    return read_trajectories(folder / f"sites/alpha/trajectories/round-{number:03d}.jsonl.gz")


@pytest.fixture
def shared() -> SharedModel:
    return SharedModel.load(toy_config())


def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy tells that whatever did not win did nothing, and offers two other actions."""
    monkeypatch.setattr(Toy, "review", lambda _, turns: [Review(effective="yes" in turn.answer) for turn in turns])
    monkeypatch.setattr(Toy, "offers", lambda _, turns: ["a", "b"] if "no" in turns[-1].answer else [])


UNSTUCK: dict[str, Any] = {
    "method": {"unstick": True},
    "rollout": {"max_response_tokens": 24, "max_turns": 4, "temperature": 3.0},
}


class TestObjectives:
    def test_the_policy_gradient_learns_this_rounds_attempts_and_what_was_kept_before(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        client, environment = site_after(2, shared, tmp_path, training={"objective": "policy_gradient"})
        lessons = [lesson.example for lesson in environment.lessons(2)]
        attempts = [one for one in lessons if one.on_policy]
        explored = played(tmp_path, 2)
        assert {bool(one.success) for one in explored} == {True, False}
        expected = dict(zip([one.tokens for one in explored], advantages(explored), strict=True))
        assert {one.tokens: (one.weights or (1.0,))[0] for one in attempts} == {
            tokens: advantage for tokens, advantage in expected.items() if advantage
        }
        assert {one.stream for one in attempts} == {Stream.RECENT}
        others = [one for one in lessons if not one.on_policy]
        assert {one.stream for one in others} == {Stream.DEMONSTRATION, Stream.EARLIER}
        assert {trajectory.round for trajectory in client.experience(2)} == {0, 1}
        assert reports(tmp_path, 2)[Phase.TRAIN].metrics["examples"] == len(lessons)

    def test_weighted_successes_count_the_more_the_seldomer_their_task_is_won(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        _, environment = site_after(2, shared, tmp_path, training={"objective": "weighted"}, method={"attempts": 2})
        attempts: Counter[Task] = Counter()
        wins: Counter[Task] = Counter()
        for one in played(tmp_path, 1) + played(tmp_path, 2):
            attempts[one.task] += 1
            wins[one.task] += bool(one.success)
        mean = wins.total() / attempts.total()
        for trajectory, weight in zip(
            environment.experience(2), environment._weights(2, environment.experience(2)), strict=True
        ):
            task = trajectory.task
            expected = (wins[task] + mean) / (attempts[task] + 1) if attempts[task] else 0.0
            assert weight == pytest.approx(1 - expected)

    def test_recorded_log_probabilities_are_there_to_learn_from(self, shared: SharedModel, tmp_path: Path) -> None:
        site_after(1, shared, tmp_path)
        for trajectory in played(tmp_path, 1):
            assert trajectory.tokens is not None
            assert trajectory.tokens.logprobs is not None
            assert all(logprob <= 0 for logprob in trajectory.tokens.logprobs)

    @pytest.mark.parametrize(
        "changes",
        [
            {"training": {"objective": "policy_gradient", "demonstration_share": 0.25}, "method": {"attempts": 2}},
            {"training": {"objective": "weighted"}, "method": {"refine": ["shortest", "effective", "truthful"]}},
            {"training": {"objective": "policy_gradient"}, **UNSTUCK},
        ],
    )
    def test_a_run_that_was_interrupted_is_the_same(
        self, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stuck(monkeypatch)
        config = toy_config(**changes)
        run(config, tmp_path / "whole")
        assert interrupted(config, tmp_path / "cut", after=25)
        run(config, tmp_path / "cut", resume=True)
        assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")


TASKS = [Task("toy", str(index)) for index in range(10)]


class TestAttempts:
    def drawn(self, round: int, before: dict[Task, Outcomes], count: int = 12, attempts: int = 3) -> Counter[Task]:
        return Counter(exploration_tasks(TASKS, count, round, seed=1, attempts=attempts, before=before))

    def test_each_task_is_attempted_so_often(self) -> None:
        assert set(self.drawn(1, {}).values()) == {3}
        assert sum(self.drawn(1, {}).values()) == 12

    def test_what_was_won_sometimes_is_attempted_again_and_the_rest_is_new(self) -> None:
        first = list(self.drawn(1, {}))
        before = {
            first[0]: Outcomes(3, 0),
            first[1]: Outcomes(3, 1),
            first[2]: Outcomes(3, 3),
            first[3]: Outcomes(3, 2),
        }
        second = self.drawn(2, before)
        assert {first[1], first[3]} <= set(second)
        assert not {first[0], first[2]} & set(second)
        assert sum(second.values()) == 12

    def test_at_most_half_of_the_episodes_are_again(self) -> None:
        before = {task: Outcomes(3, 1) for task in TASKS[:8]}
        fresh = set(self.drawn(5, {}))
        again = [task for task in self.drawn(5, before) if task not in fresh]
        assert len(again) <= 2

    def test_the_site_attempts_them(self, shared: SharedModel, tmp_path: Path) -> None:
        site_after(2, shared, tmp_path, method={"attempts": 2})
        for number in (1, 2):
            assert set(Counter(one.task for one in played(tmp_path, number)).values()) == {2}
        contested = [
            task
            for task in {one.task for one in played(tmp_path, 1)}
            if len({one.success for one in played(tmp_path, 1) if one.task == task}) == 2
        ]
        assert contested
        assert {one.task for one in played(tmp_path, 2)} & set(contested)


class TestUnsticking:
    def test_after_a_turn_in_vain_chance_takes_the_next_one_while_exploring(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stuck(monkeypatch)
        run(toy_config(toy_client("alpha", episodes_per_round=12), **UNSTUCK), tmp_path)
        by_chance: set[str] = set()
        for episode in played(tmp_path, 1):
            assert episode.tokens is not None
            assert episode.tokens.logprobs is not None
            ends = itertools.accumulate(end - start for start, end in episode.tokens.spans)
            rates = [
                episode.tokens.logprobs[end - (stop - start) : end]
                for end, (start, stop) in zip(ends, episode.tokens.spans, strict=True)
            ]
            for index, turn in enumerate(episode.turns):
                assert turn.by_chance == (index % 2 == 1)
                if turn.by_chance:
                    by_chance.add(turn.action)
                    assert not turn.truncated
                    # Before it the agent's own thought, after it what is settled with it.
                    assert [rate for rate in rates[index] if rate == pytest.approx(-math.log(2))]
                    assert rates[index][-1] == 0.0
                else:
                    assert min(rates[index]) < -1
        assert by_chance == {"a", "b"}
        tested = read_trajectories(tmp_path / "sites/alpha/evaluation/round-002.jsonl.gz")
        assert max(len(episode.turns) for episode in tested) > 1
        assert not any(turn.by_chance for episode in tested for turn in episode.turns)

    def test_its_tokens_are_those_of_its_text(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stuck(monkeypatch)
        site_after(1, shared, tmp_path, **UNSTUCK)
        for episode in played(tmp_path, 1):
            assert episode.tokens is not None
            for (start, end), turn in zip(episode.tokens.spans, episode.turns, strict=True):
                assert shared.renderer.decode(episode.tokens.ids[start:end]) == turn.response
            if not any(turn.truncated for turn in episode.turns):
                assert replace(shared.renderer.render(episode), logprobs=None) == replace(
                    episode.tokens, logprobs=None, temperature=1.0
                )


class TestRefining:
    def test_the_shortest_success_of_a_task_is_learnt(self, shared: SharedModel, tmp_path: Path) -> None:
        plain, _ = site_after(2, shared, tmp_path / "all", method={"attempts": 4})
        refined, _ = site_after(2, shared, tmp_path / "some", method={"attempts": 4, "refine": ["shortest"]})
        everything, some = plain.experience(2), refined.experience(2)
        own = [one for one in everything if one.source is Source.POLICY]
        best = {one.task: min(len(other.turns) for other in own if other.task == one.task) for one in own}
        kept = [one for one in some if one.source is Source.POLICY]
        assert {one.task: len(one.turns) for one in kept} == best
        assert len(kept) == len(best) < len(own)
        assert [one for one in some if one.source is Source.EXPERT] == [
            one for one in everything if one.source is Source.EXPERT
        ]

    def test_turns_that_are_cut_are_not_read_either(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stuck(monkeypatch)
        changes: dict[str, Any] = {"method": {"refine": ["cut", "shortest"]}, "rollout": {"temperature": 3.0}}
        _, environment = site_after(1, shared, tmp_path, **changes)
        learnt = environment.experience(1)
        own = [one for one in learnt if one.source is Source.POLICY]
        assert max(len(one.turns) for one in played(tmp_path, 1) if one.success) > 1
        assert [len(one.turns) for one in own] == [1] * len(own)
        for trajectory, lesson in zip(learnt, environment.lessons(1), strict=True):
            tokens = lesson.example.tokens
            assert tokens == trajectory.tokens
            assert list(tokens.ids[: tokens.spans[0][0]]) == shared.renderer.opening(
                trajectory.instruction, trajectory.turns[0].observation
            )
            assert [shared.renderer.decode(tokens.ids[start:end]) for start, end in tokens.spans] == [
                turn.response for turn in trajectory.turns
            ]
            assert lesson.example.weights is None

    @pytest.mark.parametrize("part", ["effective", "truthful"])
    def test_turns_that_the_environment_objects_to_are_read_and_not_learnt(
        self, part: str, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def objecting(_: Toy, turns: list[Seen]) -> list[Review]:
            """To all turns but the last."""
            last = len(turns) - 1
            return [Review(**{part: index == last}) for index in range(len(turns))]

        monkeypatch.setattr(Toy, "review", objecting)
        _, environment = site_after(1, shared, tmp_path, method={"refine": [part]}, rollout={"temperature": 3.0})
        long = 0
        learnt = environment.experience(1)
        for trajectory, lesson in zip(learnt, environment.lessons(1), strict=True):
            weights = lesson.example.weights or (1.0,) * lesson.example.tokens.agent_tokens
            sizes = [end - start for start, end in lesson.example.tokens.spans]
            if trajectory.source is Source.POLICY:
                assert weights == (0.0,) * sum(sizes[:-1]) + (1.0,) * sizes[-1]
                long += len(sizes) > 1
            else:
                assert set(weights) == {1.0}
        assert long
