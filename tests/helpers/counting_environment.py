"""A small environment for rollout tests: it counts turns, and is done when told how many it wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedse.environments.base import Environment, EnvironmentSpec, Expert, PromptStyle, StepResult
from fedse.environments.review import Review, Seen
from fedse.types import Task


class Counting(Environment):
    """Task ``n/…`` ends in success after n turns, whatever is said; ``boom/n`` raises in turn n; ``dead`` at reset."""

    name = "counting"

    def __init__(self) -> None:
        self.closed = False
        self._task = ""
        self._turn = 0

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec(
            name=self.name,
            version=1,
            summary="counts turns",
            max_turns=4,
            success_above=0.5,
            max_response_tokens=7,
            action_rule="first",
            splits={"train": 0, "test": 0},
        )

    def tasks(self, split: str) -> Sequence[Task]:
        return []

    def instruction(self, style: PromptStyle) -> str:
        return "Count."

    def reset(self, task: Task) -> str:
        self._task, self._turn = task.id, 0
        if self._task == "dead":
            raise OSError("no display")
        return f"Start of {task.id}."

    def step(self, action: str) -> StepResult:
        self._turn += 1
        kind, _, number = self._task.partition("/")
        if kind == "boom" and self._turn == int(number):
            raise ValueError("kaput")
        done = kind.isdigit() and self._turn >= int(kind)
        return StepResult(f"Turn {self._turn} of {self._task}.", 1.0 if done else 0.0, done)

    def expert(self, seed: int) -> Expert:
        class Counter:
            def act(self, observation: str) -> tuple[str, str]:
                return f"I saw {observation} ({seed % 3})", "next"

        return Counter()

    def close(self) -> None:
        self.closed = True


class Stuck(Counting):
    """Tells that every turn is in vain, and offers two actions."""

    @property
    def spec(self) -> EnvironmentSpec:
        return replace(super().spec, max_response_tokens=24)

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        return [Review(effective=False) for _ in turns]

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        return ["go on", "go back"]
