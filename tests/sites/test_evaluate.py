from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fedse.adapters.state import AdapterState
from fedse.agent import system_prompt
from fedse.config import LoraConfig, ModelConfig, RolloutConfig
from fedse.environments import make
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Player, Rules
from fedse.rollout.together import alone
from fedse.sites.evaluation import evaluate, held_out_tasks
from fedse.types import Source, StopReason, SuccessRate, Task, Trajectory

TASKS = held_out_tasks(make("maze"), "test", 3)


def evaluated(player: Player, *arguments: Any, **options: Any) -> tuple[SuccessRate, list[Trajectory]]:
    return alone(player, evaluate(*arguments, **options))


class ScriptedPlayer:
    """Stands in for the model: episodes come out as told, in the order of the requests."""

    def __init__(self, outcomes: Sequence[bool | None] = ()) -> None:
        self.outcomes = outcomes
        self.requests: list[EpisodeRequest] = []
        self.rules: Rules

    def play(self, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        [play] = plays
        requests, rules = play.requests, play.rules
        self.requests, self.rules = list(requests), rules
        outcomes = self.outcomes or [True] * len(requests)
        played = [
            Trajectory(
                request.task,
                Source.POLICY,
                rules.instruction,
                (),
                "",
                success,
                0.0,
                StopReason.ERROR if success is None else StopReason.DONE,
                error="" if success is not None else "the line is dead",
            )
            for request, success in zip(requests, outcomes, strict=True)
        ]
        return [played]


class TestHeldOutTasks:
    def test_they_are_the_first_of_the_split(self) -> None:
        maze = make("maze")
        assert held_out_tasks(maze, "test", 5) == list(maze.tasks("test")[:5])

    def test_none_or_too_many_means_all(self) -> None:
        maze = make("maze")
        for n in (None, 10**6):
            assert held_out_tasks(maze, "test", n) == list(maze.tasks("test"))

    def test_an_unknown_split_is_told(self) -> None:
        with pytest.raises(UnknownNameError, match="tset"):
            held_out_tasks(make("maze"), "tset", 1)


class TestEvaluate:
    def test_greedy_plays_each_task_once(self) -> None:
        player = ScriptedPlayer([True, False, True])
        rate, trajectories = evaluated(player, None, "maze", TASKS, samples=5)
        assert [request.task for request in player.requests] == TASKS
        assert player.rules.greedy is True
        assert (rate.successes, rate.episodes, rate.errors) == (2, 3, 0)
        assert len(trajectories) == 3

    def test_sampled_plays_each_task_several_times_with_other_seeds(self) -> None:
        player = ScriptedPlayer()
        rate, _ = evaluated(player, None, "maze", TASKS, decoding="sampled", samples=4)
        assert player.rules.greedy is False
        assert [request.task for request in player.requests] == [task for task in TASKS for _ in range(4)]
        assert len({request.seed for request in player.requests}) == rate.episodes == 12

    def test_seeds_belong_to_tasks_so_that_adapters_compare(self) -> None:
        def seeds(tasks: Sequence[Task], seed: int) -> dict[Task, int]:
            player = ScriptedPlayer()
            evaluated(player, None, "maze", tasks, seed=seed)
            return {request.task: request.seed for request in player.requests}

        assert seeds(TASKS[1:], 0).items() <= seeds(TASKS, 0).items()
        assert not set(seeds(TASKS, 1).values()) & set(seeds(TASKS, 0).values())

    @pytest.mark.parametrize("prompt", ["concise", "full"])
    def test_options_and_prompt_reach_the_episodes(self, prompt: Any) -> None:
        player = ScriptedPlayer()
        evaluated(player, None, "maze", TASKS, options={"parity": True}, prompt=prompt)
        assert player.rules.instruction == system_prompt(make("maze", parity=True), prompt)
        assert player.rules.make_environment().spec.options["parity"] is True

    def test_some_faults_are_counted(self) -> None:
        rate, _ = evaluated(ScriptedPlayer([True, None, False]), None, "maze", TASKS)
        assert (rate.successes, rate.episodes, rate.errors) == (1, 2, 1)

    def test_faults_alone_are_no_rate(self) -> None:
        with pytest.raises(EnvironmentFault, match=r"all 3 episodes were lost .* the line is dead") as caught:
            evaluated(ScriptedPlayer([None, None, None]), None, "maze", TASKS)
        assert "--resume" not in caught.value.mend  # which fedse eval does not have

    def test_no_tasks_are_no_rate(self) -> None:
        with pytest.raises(ConfigError, match="there are no tasks of maze"):
            evaluated(ScriptedPlayer(), None, "maze", [])

    def test_an_unknown_environment_is_told(self) -> None:
        with pytest.raises(UnknownNameError, match="mzae"):
            evaluated(ScriptedPlayer(), None, "mzae", TASKS)

    def test_the_real_player_plays_it(self) -> None:
        from fedse.agent import renderer_for
        from fedse.models.base import load_base
        from fedse.models.lora import LoraModel
        from fedse.rollout.torch.player import TorchPlayer

        lora = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig(rank=2))
        limits = RolloutConfig(slots=2, max_turns=2, max_response_tokens=4)
        player = TorchPlayer(lora, renderer_for(lora.base.tokenizer), limits)
        rate, trajectories = evaluated(player, None, "maze", TASKS)
        assert rate.episodes == 3
        assert [trajectory.task for trajectory in trajectories] == TASKS
