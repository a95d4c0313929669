"""TextCraft in AgentGym: goals are numbered, and sessions go on after success."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from fedse.environments.agentgym.counterpart import Counterpart, Session
from fedse.environments.parts import Part, parse_part
from fedse.environments.textcraft.environment import TextCraft
from fedse.environments.textcraft.game import Game
from fedse.environments.textcraft.graph import Opening, crafting_graph, make_opening, opening
from fedse.environments.textcraft.recipes import NAMESPACE, written
from fedse.environments.textcraft.splits import DEPTHS
from fedse.types import Task

_GOAL = re.compile(r"^Goal: craft (.+)\.$", re.MULTILINE)
_NOT_OPEN = "There is no open episode: reset first."


class TextCraftCounterpart(Counterpart[TextCraft]):
    """Goals have numbers in our order of recipe files; the original's order is that of its file system."""

    limits: ClassVar[Mapping[str, Any]] = {"max_depth": DEPTHS[-1], "missing": None}

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        numbers, splits = crafting_graph().number, self.environment.spec.splits
        return {split: {numbers[task.id]: task for task in self.environment.tasks(split)} for split in splits}

    def imported_task(self, item: str, observation: str) -> Task | None:  # noqa: ARG002
        """Goals are told in words, whatever their number was."""
        named = _GOAL.search(observation)
        return Task(self.environment.name, written(named[1])) if named else None

    def session(self, slot: int = 0) -> Session:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        missing = self.options["missing"]
        part = None if missing is None else parse_part(missing, option="textcraft: missing must be")
        return TextCraftSession(slot, parity=self.options["parity"], missing=part)

    def recorded_session(self, record: Mapping[str, Any]) -> Session:
        """The record holds the commands; recordings were made with the original's faults."""
        given = {"commands": "\n".join(record["commands"]), "goal": record["goal"]}
        return TextCraftSession(0, parity=True, defaults=given)


class TextCraftSession(Session):
    """One slot of AgentGym's TextCraft server.

    Args:
        slot: the slot's number, given back at reset.
        parity: keep entries of zero items in the inventory, as the original does.
        missing: the part of the items whose recipes are lacking.
        defaults: arguments of :meth:`reset` for resets that do not give them.
    """

    def __init__(
        self, slot: int, *, parity: bool, missing: Part | None = None, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self._slot = slot
        self._parity = parity
        self._missing = missing
        self._defaults = defaults or {}
        self._opening: Opening | None = None
        self._game: Game | None = None

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``.

        Takes ``data_idx``, a number of a goal (0 unless given; any integer, modulo the number of goals).  Takes
        ``commands``, lines in one text, and ``goal``, an item's id, instead of it: the original accepts them within its
        process, and overwrites those that come with ``POST /create``.
        """
        wanted = {"data_idx": 0, "commands": None, "goal": None} | dict(self._defaults) | kwargs
        if wanted["commands"] is not None and wanted["goal"] is not None:
            self._opening = make_opening(wanted["goal"].removeprefix(NAMESPACE), wanted["commands"].split("\n"))
        else:
            goals = crafting_graph().goals
            self._opening = opening(goals[wanted["data_idx"] % len(goals)], self._missing)
        self._game = Game(self._opening.goal, parity=self._parity, missing=self._missing)
        return {"id": self._slot, "observation": self._opening.observation, "done": False, "reward": 0}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``; the episode goes on after success, as in the original."""
        if self._game is None:
            return {"error": _NOT_OPEN}
        result = self._game.step(action)
        return {"observation": result.observation, "reward": int(result.reward), "done": result.done}

    def commands(self) -> str | dict[str, Any]:
        """Payload of ``GET /commands``, on which the original breaks down: the lines shown at reset."""
        return {"error": _NOT_OPEN} if self._opening is None else "\n".join(self._opening.commands)

    def goal(self) -> str | dict[str, Any]:
        """Payload of ``GET /goal``, on which the original breaks down: the id of the item to craft."""
        return {"error": _NOT_OPEN} if self._opening is None else NAMESPACE + self._opening.goal
