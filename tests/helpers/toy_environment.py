"""A toy environment that a random model solves now and then: about every third action succeeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from fedse.environments.base import Environment, EnvironmentSpec, Expert, PromptStyle, StepResult
from fedse.errors import EnvironmentFault, UnknownNameError
from fedse.types import Task

SIZES = {"train": 7, "test": 4, "empty": 0}


class Toy(Environment):
    """An action succeeds iff the sum of its bytes and the task's number leave no rest by three.

    Options:
        secret: appears in every text of the environment.
        broken: "never", "sometimes" (in tasks with an even number) or "always": how often a step is a fault.
    """

    name: ClassVar[str] = "toy"

    def __init__(self, *, secret: str = "", broken: str = "never") -> None:
        self._secret = secret
        self._broken = broken
        self._number = 0

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec(
            name=self.name,
            version=1,
            summary="a toy",
            max_turns=2,
            success_above=0.5,
            max_response_tokens=3,
            action_rule="first",
            splits=SIZES,
            options={"secret": self._secret, "broken": self._broken},
        )

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in SIZES:
            raise UnknownNameError(f"no split {split!r}", f"splits: {', '.join(SIZES)}")
        return [Task(self.name, f"{split}{self._secret}-{index}") for index in range(SIZES[split])]

    def instruction(self, style: PromptStyle) -> str:
        return f"Say something. {self._secret}"

    def reset(self, task: Task) -> str:
        self._number = int(task.id.rpartition("-")[2])
        return f"{self._secret} {self._number}?"

    def step(self, action: str) -> StepResult:
        if self._broken == "always" or (self._broken == "sometimes" and self._number % 2 == 0):
            raise EnvironmentFault(f"the toy is broken on {self._number}")
        success = succeeds(action, self._number)
        return StepResult(f"{self._secret} {'yes' if success else 'no'}", float(success), success)

    def expert(self, seed: int) -> Expert:
        return ToyExpert(self._number, seed)


class ToyExpert:
    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._seed = seed

    def act(self, observation: str) -> tuple[str, str]:
        action = f"go {self._seed % 97}"
        while not succeeds(action, self._number):
            action += "."
        return f"I am sure. {observation}", action


def succeeds(action: str, number: int) -> bool:
    return (sum(action.encode()) + number) % 3 == 0


#: What a site must not give away, each on its own, and in no configuration: where it stands → a string.
CANARIES = {
    where: f"canary{index}{digest}"
    for index, (where, digest) in enumerate(
        (where, hashlib.sha256(where.encode()).hexdigest()[:20])
        for where in ("task", "instruction", "observation", "thought", "action", "fault", "file")
    )
}


class Whispering(Toy):
    """The toy with a canary in all that it says, and in all that its expert says."""

    name: ClassVar[str] = "whispering"

    def tasks(self, split: str) -> Sequence[Task]:
        return [Task(self.name, f"{CANARIES['task']}-{task.id}") for task in super().tasks(split)]

    def instruction(self, style: PromptStyle) -> str:
        return f"{CANARIES['instruction']} {super().instruction(style)}"

    def reset(self, task: Task) -> str:
        return f"{CANARIES['observation']} {super().reset(task)}"

    def step(self, action: str) -> StepResult:
        try:
            result = super().step(action)
        except EnvironmentFault as fault:
            raise EnvironmentFault(f"{fault.what} {CANARIES['fault']}") from fault
        return replace(result, observation=f"{CANARIES['observation']} {result.observation}")

    def expert(self, seed: int) -> Expert:
        return WhisperingExpert(self._number, seed)


class WhisperingExpert(ToyExpert):
    def act(self, observation: str) -> tuple[str, str]:
        action = f"{CANARIES['action']} {self._seed % 97}"
        while not succeeds(action, self._number):
            action += "."
        return f"{CANARIES['thought']} {observation}", action
