"""The BabyAI environment: MiniGrid's BabyAI levels in words, as AgentGym serves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fedse.environments.babyai.expert import BabyAIExpert
from fedse.environments.babyai.instructions import CONCISE, FULL
from fedse.environments.babyai.levels import LEVELS, MAX_TURNS, chosen_levels
from fedse.environments.babyai.missions import Status
from fedse.environments.babyai.perception import Perception, perceive
from fedse.environments.babyai.review import offers, review
from fedse.environments.babyai.splits import split_tasks
from fedse.environments.babyai.wording import spelled
from fedse.environments.babyai.world import Scene, World
from fedse.environments.base import (
    Environment,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    TaskTraits,
    task_number,
)
from fedse.environments.forgiving import shown
from fedse.environments.review import Review, Seen
from fedse.errors import ConfigError, EnvironmentFault, boundary
from fedse.names import unknown_name
from fedse.types import Task

_UNKNOWN = "The action is not recognized. Please check valid actions."
_NO_ACTION = "is no action now. Write one from the list."
_UNCHANGED = "No change in state."
_COMPLETED = "\n The task is completed."
_TIME_UP = "\n The time is up."
_ENDINGS = {Status.SUCCESS: _COMPLETED, Status.FAILURE: "\n The task has failed."}
#: Below this the original server does not take a success for the end.
_LATE = 0.5


class BabyAI(Environment):
    """Carry out a mission in a grid of rooms, seeing only what lies ahead.

    Args:
        levels: which levels the tasks of the splits are from: a group such as ``easy``, or a list of names, numbers (1
            to 40) and groups; the benchmark's 18 by default.
        parity: understand only what the original server does, and also reproduce what it gets wrong (see the
            documentation).
    """

    name: ClassVar[str] = "babyai"
    agentgym: ClassVar[str] = "fedse.environments.babyai.agentgym:BabyAICounterpart"

    def __init__(self, *, levels: str | Sequence[str | int] = "benchmark", parity: bool = False) -> None:
        if not isinstance(parity, bool):
            raise ConfigError(f"babyai: parity must be true or false, found {parity!r}")
        self._levels = chosen_levels(levels)
        self._splits = split_tasks(self._levels)
        self._parity = parity
        self._world: World | None = None
        self._perception: Perception | None = None
        self._reward = 0.0

    @property
    def spec(self) -> EnvironmentSpec:
        """20 turns, as in AgentGym's scripts; every success has a positive reward and nothing else has."""
        return EnvironmentSpec(
            name=self.name,
            version=2,
            summary="Carry out a mission in a grid of rooms, seeing only what lies ahead (BabyAI, AgentGym).",
            max_turns=MAX_TURNS,
            success_above=0.0,
            max_response_tokens=96,
            action_rule="single",
            splits={split: len(tasks) for split, tasks in self._splits.items()},
            options={"levels": list(self._levels), "parity": self._parity},
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; the splits are described in the documentation."""
        if split not in self._splits:
            raise unknown_name(f"{self.name} split", split, self._splits)
        return self._splits[split]

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds hints and an example."""
        return CONCISE if style == "concise" else FULL

    def traits(self, task: Task) -> TaskTraits:
        """Kind: what the mission asks for.  Size: cells in a row of the world.

        Difficulty: cells to the nearest thing that will do, added up over the parts of the mission.
        """
        scene = _scene(*self._located(task))
        errands = scene.clause.errands
        return TaskTraits(
            kind=errands[0].kind if len(errands) == 1 else "several",
            size=scene.width,
            difficulty=sum(min(map(scene.distance, errand.targets)) for errand in errands),
        )

    def reset(self, task: Task) -> str:
        """Open a task such as ``GoToRedBall/12``: a level and the seed of its world.  All levels and seeds exist."""
        return self.open(*self._located(task))

    def _located(self, task: Task) -> tuple[str, int]:
        """Level and seed of a task."""
        level, _, text = task.id.partition("/")
        seed = task_number(text)
        if task.environment != self.name or level not in LEVELS or seed is None:
            raise EnvironmentFault(
                f"babyai: there is no task {task}", f"a task id is level/seed, with a level of {', '.join(LEVELS)}"
            )
        return level, seed

    def open(self, level: str, seed: int) -> str:
        """Begin an episode in the world of a level and a seed; return the first observation.

        Raises:
            EnvironmentFault: if MiniGrid cannot be imported or cannot make the world.
        """
        world = World(_scene(level, seed))
        self._world, self._reward = world, 0.0
        self._perception = self._perceive(world)
        return f"Your goal: {world.scene.mission}\n{self._perception.description}{self._perception.listing}"

    def step(self, action: str) -> StepResult:
        """Carry out an action in words; one that is not possible is answered with the reason and costs a turn only."""
        world, perception = self._world, self._perception
        if world is None or perception is None:
            raise EnvironmentFault("babyai: there is no open episode to step", "call reset with a task first")
        said, action = action, action.lower().strip()
        if not self._parity:
            action = spelled(action, (*perception.actions, *perception.problems))
        if "check" in action:
            return self._unmoved(f"You can take the following actions: {', '.join(perception.actions)}", perception)
        path = perception.actions.get(action)
        if path is None:
            original = _UNKNOWN if action else _UNCHANGED
            unknown = original if self._parity else f"{shown(said)} {_NO_ACTION}"
            return self._unmoved(perception.problems.get(action, unknown), perception)
        if not path:
            return self._unmoved(_UNCHANGED, perception)
        world.run(path, run_on=self._parity)
        return self._moved(world)

    def _perceive(self, world: World) -> Perception:
        return perceive(world.view(), world.heading, parity=self._parity)

    def _unmoved(self, text: str, perception: Perception) -> StepResult:
        # The original repeats the last reward; unless in parity there was none, or the episode would be over.
        return StepResult(text + perception.listing, self._reward, False)

    def _moved(self, world: World) -> StepResult:
        self._reward = world.reward if world.status is Status.SUCCESS else 0.0
        if self._parity:
            ending = "" if world.status is Status.CONTINUE else _COMPLETED
            done = self._reward > _LATE
        else:
            ending = _ENDINGS.get(world.status, _TIME_UP if world.time_up else "")
            done = world.over
        self._perception = self._perceive(world)
        if done:
            self._world = None
        return StepResult(self._perception.description + ending + self._perception.listing, self._reward, done)

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """See :mod:`fedse.environments.babyai.review`."""
        return review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """See :mod:`fedse.environments.babyai.review`."""
        return offers(turns)

    def expert(self, seed: int) -> Expert:
        """A planner on MiniGrid's bot; see :class:`~fedse.environments.babyai.expert.BabyAIExpert`."""
        if self._world is None:
            raise EnvironmentFault("babyai: there is no open episode for an expert", "call reset with a task first")
        return BabyAIExpert(self._world, seed)


def _scene(level: str, seed: int) -> Scene:
    with boundary(EnvironmentFault, f"babyai: the world {level}/{seed} could not be made"):
        # Imported here because it takes a second, which listing environments should not.
        from fedse.environments.babyai.generation import scene

        return scene(level, seed)
