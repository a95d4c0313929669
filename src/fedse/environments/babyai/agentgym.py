"""BabyAI in AgentGym: a task's number stands for a level and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedse.environments.agentgym.counterpart import Counterpart, GameSession
from fedse.environments.babyai.environment import BabyAI
from fedse.environments.babyai.levels import BENCHMARK_LEVELS, LEVELS
from fedse.environments.base import StepResult
from fedse.errors import EnvironmentFault
from fedse.types import Task


class BabyAISession(GameSession[BabyAI]):
    """One slot of AgentGym's BabyAI server; in parity ``score`` is the sum of the rewards, else the highest."""

    _score: float = 0

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``; takes ``data_idx``, which stands for a level and a seed."""
        try:
            observation = self.game.open(*_located(kwargs["data_idx"]))
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._score, self.done = 0, False
        return {"observation": observation, "reward": 0, "score": 0, "deleted": False, "done": False}

    def answer(self, result: StepResult) -> dict[str, Any]:
        """Where there is no reward the original sends the integer 0."""
        reward = result.reward or 0
        self._score = self._score + reward if self.parity else max(self._score, reward)
        return {"observation": result.observation, "reward": reward, "score": self._score, "done": result.done}


class BabyAICounterpart(Counterpart[BabyAI]):
    """The levels take turns, seed by seed."""

    session_class = BabyAISession
    limits: ClassVar[Mapping[str, Any]] = {"levels": list(BENCHMARK_LEVELS)}

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        splits = self.environment.spec.splits
        return {split: {_number(task): task for task in self.environment.tasks(split)} for split in splits}

    def task_of(self, number: int) -> Task:
        """A number stands for a level and a seed."""
        level, seed = _located(number)
        return Task(self.environment.name, f"{level}/{seed}")


def _located(number: int) -> tuple[str, int]:
    """Level and seed."""
    seed, level = divmod(number, len(LEVELS))
    return LEVELS[level], seed


def _number(task: Task) -> int:
    level, _, seed = task.id.partition("/")
    return int(seed) * len(LEVELS) + LEVELS.index(level)
