"""check_environment is silent about sound environments and names the rule that a broken one breaks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from fedse.environments import Environment, EnvironmentSpec, Expert, StepResult, environment_names, make
from fedse.environments.checking import check_environment
from fedse.errors import EnvironmentFault, UnknownNameError
from fedse.types import Task


class Sound(Environment):
    """Say the task's number, in at most four turns."""

    name = "toy"

    def __init__(self) -> None:
        self._secret: str | None = None

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("toy", 1, "Say the number.", 4, 0.5, 16, "first", {"train": 5, "test": 3}, {"a": [1]})

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self.spec.splits:
            raise UnknownNameError(f"no split {split}")
        return [Task("toy", str(seed)) for seed in {"train": range(5), "test": range(5, 8)}[split]]

    def instruction(self, style: str) -> str:
        return "Say the number."

    def reset(self, task: Task) -> str:
        if not task.id.isdigit():
            raise EnvironmentFault("no such task")
        self._secret = task.id
        return f"The number is {task.id}."

    def step(self, action: str) -> StepResult:
        if self._secret is None:
            raise EnvironmentFault("no open episode")
        done = action == f"say {self._secret}"
        observation = f"The number is not {action!r}, it is {self._secret}."
        if done:
            self._secret = None
        return StepResult(observation, 1.0 if done else 0.0, done)

    def expert(self, seed: int) -> Expert:
        return Reader()


class Reader:
    def act(self, observation: str) -> tuple[str, str]:
        return "I read it.", "say " + observation.rstrip(".").split()[-1]


def spec_with(**changes: Any) -> type[Sound]:
    class Changed(Sound):
        @property
        def spec(self) -> EnvironmentSpec:
            return replace(super().spec, **changes)

    return Changed


class SpecChanges(Sound):
    counter = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self._number = next(self.counter)

    @property
    def spec(self) -> EnvironmentSpec:
        return replace(super().spec, options={"number": self._number})


class NoSpec(Sound):
    spec = None  # type: ignore[assignment]


class Overlap(Sound):
    def tasks(self, split: str) -> Sequence[Task]:
        return [Task("toy", task.id.replace("5", "4")) for task in super().tasks(split)]


class Twice(Sound):
    def tasks(self, split: str) -> Sequence[Task]:
        return [Task("toy", "7")] * 3 if split == "test" else super().tasks(split)


class ForeignTasks(Sound):
    def tasks(self, split: str) -> Sequence[Task]:
        return [Task("maze", task.id) for task in super().tasks(split)]


turns = itertools.count(1)


class ShuffledTasks(Sound):
    def tasks(self, split: str) -> Sequence[Task]:
        tasks = list(super().tasks(split))
        if split == "train":
            tasks.insert(0, tasks.pop(next(turns) % len(tasks)))  # another order at every call
        return tasks


class AnySplit(Sound):
    def tasks(self, split: str) -> Sequence[Task]:
        return super().tasks(split if split in ("train", "test") else "train")


class Mute(Sound):
    def instruction(self, style: str) -> str:
        return "" if style == "full" else "Say it."


class StepsWithoutReset(Sound):
    def step(self, action: str) -> StepResult:
        return super().step(action) if self._secret else StepResult("no game", 0.0, True)


class StepsAfterTheEnd(Sound):
    def step(self, action: str) -> StepResult:
        secret, result = self._secret, super().step(action)
        self._secret = secret
        return result


class AcceptsAnyTask(Sound):
    def reset(self, task: Task) -> str:
        return super().reset(task if task.id.isdigit() else Task("toy", "0"))


class Picky(Sound):
    def step(self, action: str) -> StepResult:
        action.encode("ascii")
        return super().step(action)


class FaultOnJunk(Sound):
    def step(self, action: str) -> StepResult:
        if not action:
            raise EnvironmentFault("empty action")
        return super().step(action)


class IntegerReward(Sound):
    def step(self, action: str) -> StepResult:
        return replace(super().step(action), reward=0)


class NotANumber(Sound):
    def step(self, action: str) -> StepResult:
        return replace(super().step(action), reward=float("nan"))


class DoneIsAWord(Sound):
    def step(self, action: str) -> StepResult:
        return replace(super().step(action), done="")  # type: ignore[arg-type]


class Tuples(Sound):
    def step(self, action: str) -> StepResult:
        super().step(action)
        return ("seen", 0.0, False)  # type: ignore[return-value]


class SilentReset(Sound):
    def reset(self, task: Task) -> str:
        super().reset(task)
        return None  # type: ignore[return-value]


class GlobalRandom(Sound):
    def step(self, action: str) -> StepResult:
        result = super().step(action)
        return result if result.done else replace(result, observation=f"{random.random()} {result.observation}")


class Remembers(Sound):
    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def step(self, action: str) -> StepResult:
        self._count += 1
        result = super().step(action)
        return result if result.done else replace(result, observation=f"{self._count}: {result.observation}")


class Shared(Sound):
    """Keeps the episode in the class."""

    current: str | None = None

    def reset(self, task: Task) -> str:
        Shared.current = task.id
        return f"The number is {super().reset(task) and task.id}."

    def step(self, action: str) -> StepResult:
        if self._secret is not None:
            self._secret = Shared.current
        return super().step(action)


class WeakExpert(Sound):
    def expert(self, seed: int) -> Expert:
        class Weak:
            def act(self, observation: str) -> tuple[str, str]:
                return "Hm.", "say 3"

        return Weak()


class ExpertWithoutThought(Sound):
    def expert(self, seed: int) -> Expert:
        class Silent:
            def act(self, observation: str) -> tuple[str, str]:
                return "", Reader().act(observation)[1]

        return Silent()


class MoodyExpert(Sound):
    calls = itertools.count()

    def expert(self, seed: int) -> Expert:
        mood = next(self.calls)

        class Moody:
            started = False

            def act(self, observation: str) -> tuple[str, str]:
                first, self.started = not self.started, True
                return "Hm.", f"wait {mood}" if first else Reader().act(observation)[1]

        return Moody()


class EarlyReward(StepsAfterTheEnd):
    def step(self, action: str) -> StepResult:
        return replace(super().step(action), done=False)


class GivenAway(Sound):
    def step(self, action: str) -> StepResult:
        super().step(action)
        self._secret = None
        return StepResult("Well done.", 1.0, True)


class RaisesLate(Sound):
    def step(self, action: str) -> StepResult:
        if action.startswith("say"):
            raise ZeroDivisionError("oops")
        return super().step(action)


BROKEN = {
    "spec": [
        NoSpec,
        SpecChanges,
        spec_with(name="other"),
        spec_with(version=0),
        spec_with(max_turns=0),
        spec_with(max_response_tokens=1.5),
        spec_with(action_rule="last"),
        spec_with(summary="two\nlines"),
        spec_with(options={"size": (1, 2)}),
        spec_with(options={1: "a"}),
        spec_with(splits=MappingProxyType({"train": 5, "test": 3})),
    ],
    "success": [spec_with(success_above=float("inf")), EarlyReward, GivenAway],
    "splits": [spec_with(splits={"train": 5}), spec_with(splits={"train": 4, "test": 3}), Overlap, AnySplit],
    "tasks": [Twice, ForeignTasks, ShuffledTasks],
    "instruction": [Mute],
    "closed episode": [StepsWithoutReset, StepsAfterTheEnd, AcceptsAnyTask, RaisesLate],
    "any action": [Picky, FaultOnJunk],
    "answer": [IntegerReward, NotANumber, DoneIsAWord, Tuples, SilentReset],
    "determinism": [GlobalRandom, Remembers, MoodyExpert],
    "independence": [Shared],
    "expert": [WeakExpert, ExpertWithoutThought],
}


def test_a_sound_environment_has_no_problems() -> None:
    assert check_environment(Sound) == []


@pytest.mark.parametrize("name", environment_names())
def test_installed_environments_keep_the_contract(name: str) -> None:
    assert check_environment(name) == []


@pytest.mark.parametrize("options", [{"mode": "fixed"}, {"size": 200}, {"parity": True}])
def test_wordle_keeps_the_contract_under_its_options(options: dict[str, Any]) -> None:
    assert check_environment(lambda: make("wordle", **options)) == []


@pytest.mark.parametrize(("rule", "cls"), [(rule, cls) for rule, classes in BROKEN.items() for cls in classes])
def test_a_broken_rule_is_named(rule: str, cls: type[Sound]) -> None:
    problems = check_environment(cls)
    assert rule in {problem.rule for problem in problems}, problems
    assert all(problem.detail and str(problem) == f"{problem.rule}: {problem.detail}" for problem in problems)


def test_the_detail_says_what_was_found() -> None:
    assert [str(problem) for problem in check_environment(Overlap)] == [
        "splits: train and test share 1 task, such as '4'"
    ]


def test_an_exception_is_told_once_with_its_place_and_how_often() -> None:
    (problem,) = check_environment(RaisesLate)
    line = RaisesLate.step.__code__.co_firstlineno + 2
    assert f"ZeroDivisionError: oops, raised at {__file__}:{line}; so " in problem.detail
    (junk,) = check_environment(FaultOnJunk)
    assert junk.rule == "any action"
    assert "step('') raised instead of answering: empty action, raised at" in junk.detail


def test_unknown_names_are_errors_and_not_problems() -> None:
    with pytest.raises(UnknownNameError):
        check_environment("no-such-environment")
