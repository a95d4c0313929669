"""The TextCraft environment: ADaPT's crafting game as AgentGym serves it, the same in every process."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

from fedse.environments.base import Environment, EnvironmentSpec, Expert, PromptStyle, StepResult, TaskTraits
from fedse.environments.parts import Part, parse_part
from fedse.environments.review import Review, Seen
from fedse.environments.textcraft.expert import TextCraftExpert
from fedse.environments.textcraft.game import Game
from fedse.environments.textcraft.graph import Opening, crafting_graph, goal_kinds, opening
from fedse.environments.textcraft.instructions import CONCISE, FULL
from fedse.environments.textcraft.review import offers, review
from fedse.environments.textcraft.splits import DEPTHS, SPLITS, goals_of
from fedse.errors import ConfigError, EnvironmentFault
from fedse.names import did_you_mean, unknown_name
from fedse.types import Task

MAX_TURNS = 20


class TextCraft(Environment):
    """Craft a goal item from basic things by Minecraft's recipes.

    Args:
        max_depth: greatest depth of a goal in the splits, 1 to 4; a goal of depth 1 needs one craft.
        missing: lack the recipes of a part of the items, such as ``1/4``; these items can be fetched, and are no goals.
            See :class:`~fedse.environments.parts.Part`.
        parity: also reproduce a fault of the original server: ``get 0 …`` leaves an entry of zero in the inventory.

    Raises:
        EnvironmentFault: if the package ``textcraft``, which holds the recipes, is missing or differs.
    """

    name: ClassVar[str] = "textcraft"
    agentgym: ClassVar[str] = "fedse.environments.textcraft.agentgym:TextCraftCounterpart"

    def __init__(self, *, max_depth: int = DEPTHS[-1], missing: str | None = None, parity: bool = False) -> None:
        if isinstance(max_depth, bool) or max_depth not in DEPTHS:
            raise ConfigError(f"textcraft: max_depth must be 1, 2, 3 or 4, found {max_depth!r}")
        if not isinstance(parity, bool):
            raise ConfigError(f"textcraft: parity must be true or false, found {parity!r}")
        self._missing = None if missing is None else parse_part(missing, option="textcraft: missing must be")
        crafting_graph(self._missing)  # so that an absent package is noticed here and not in the middle of a run
        self._max_depth = max_depth
        self._parity = parity
        self._opening: Opening | None = None
        self._game: Game | None = None

    @property
    def spec(self) -> EnvironmentSpec:
        """20 turns, as in AgentGym's scripts; only crafting the goal gives a reward above 0.99."""
        return EnvironmentSpec(
            name=self.name,
            version=2,
            summary="Craft an item from basic things by Minecraft's recipes (ADaPT, AgentGym).",
            max_turns=MAX_TURNS,
            success_above=0.99,
            max_response_tokens=96,
            action_rule="single",
            splits={split: len(_tasks(split, self._max_depth, self._missing)) for split in SPLITS},
            options={
                "max_depth": self._max_depth,
                "missing": None if self._missing is None else str(self._missing),
                "parity": self._parity,
            },
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; a task's id is the name of its goal."""
        if split not in SPLITS:
            raise unknown_name(f"{self.name} split", split, SPLITS)
        return _tasks(split, self._max_depth, self._missing)

    def traits(self, task: Task) -> TaskTraits:
        """Kind: the last word of the goal's name if several share it.  Size: commands shown.  Difficulty: depth."""
        shown = self._opening_of(task)
        depth = crafting_graph(self._missing).depth(task.id)
        return TaskTraits(goal_kinds()[task.id], size=len(shown.commands), difficulty=depth)

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds hints and an example."""
        return CONCISE if style == "concise" else FULL

    def reset(self, task: Task) -> str:
        """Open a task such as ``oak_sign``; any goal is a task, whatever ``max_depth`` is."""
        self._opening = self._opening_of(task)
        self._game = Game(task.id, parity=self._parity, missing=self._missing)
        return self._opening.observation

    def _opening_of(self, task: Task) -> Opening:
        goals = crafting_graph(self._missing).recipes
        if task.environment != self.name or task.id not in goals:
            lacking = "" if self._missing is None else f" whose recipe is not in the missing part {self._missing}"
            raise EnvironmentFault(
                f"textcraft: there is no task {task}",
                f"{did_you_mean(task.id, goals)}a task id is a craftable item of Minecraft 1.16, such as oak_sign"
                f"{lacking}",
            )
        return opening(task.id, self._missing)

    def step(self, action: str) -> StepResult:
        """Get or craft something, or look into the inventory; other actions are refused in words."""
        if self._game is None:
            raise EnvironmentFault("textcraft: there is no open episode to step", "call reset with a task first")
        result = self._game.step(action)
        if result.done:
            self._game = None
        return result

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """See :mod:`fedse.environments.textcraft.review`."""
        return review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """See :mod:`fedse.environments.textcraft.review`."""
        return offers(turns, crafting_graph(self._missing))

    def expert(self, seed: int) -> Expert:
        """A planner that knows the first observation and nothing else."""
        if self._opening is None:
            raise EnvironmentFault("textcraft: there is no episode for an expert", "call reset with a task first")
        return TextCraftExpert(self._opening.observation, seed)


@functools.cache
def _tasks(split: str, max_depth: int, missing: Part | None) -> Sequence[Task]:
    return tuple(Task(TextCraft.name, goal) for goal in goals_of(split, max_depth, missing))
