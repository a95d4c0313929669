"""The TextCraft expert: plans from what the agent is shown, and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil

from fedse.environments.textcraft.planner import Craft, Fetch, Step, listed, parse_command, plan
from fedse.environments.textcraft.recipes import NAMESPACE, written
from fedse.environments.voices import voices
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

_OPENING = re.compile(r"Crafting commands:\n(.*)\n\nGoal: craft (.+)\.", re.DOTALL)
_CARRIED = re.compile(r"\[([^]]+)\] \(([0-9]+)\) ")
_INVENTORY = "Inventory: "
#: How often everything is fetched before the first craft, instead of each thing when a craft needs it.
_FETCH_FIRST = 0.25
#: A thought with more words leaves out what the goal needs and speaks of the part at hand only.
_WORDS = 30


VOICES = voices(
    goal=("Goal: {}.", "I want {}.", "The goal is {}."),
    needs=("It needs {}.", "That takes {}.", "It uses {}."),
    part=("For {} {}: {} from {}.", "I make {} {}, {} from {}.", "Needed: {} {}, {} from {}."),
    fetch=("No command makes {}, so I get {}.", "No command for {}: I get {}.", "Nothing crafts {}, so I fetch {}."),
    have=("I have {}.", "I carry {}.", "I hold {}."),
    craft=("I craft {} for {}.", "Now I make {} for {}.", "Next is {} for {}."),
    again=(
        "I craft {} for {}, {} of {}.",
        "Now I make {} for {}, time {} of {}.",
        "Next is {} for {}, number {} of {}.",
    ),
    finish=("That is all it needs.", "This is enough to craft it.", "Nothing is missing, so I craft it."),
    look=(
        "That is not what I expected. I look at what I have.",
        "Something went wrong. I check my inventory.",
        "I did not expect that. I see what I hold.",
    ),
)


class TextCraftExpert:
    """Crafts the goal in the fewest actions that it finds.

    It reads the commands and the goal from the first observation and follows its plan as long as every answer is the
    one that its action should have.  After any other answer it looks into the inventory and plans anew.

    Args:
        opening: the first observation of the episode; :meth:`act` may also be called first in the middle of it.
        seed: decides the way of speaking, and whether things are fetched all at once or when they are needed.
    """

    def __init__(self, opening: str, seed: int) -> None:
        match = _OPENING.fullmatch(opening)
        if match is None:
            raise EnvironmentFault(f"the textcraft expert cannot read the first observation {opening!r}")
        lines = [parse_command(line) for line in match[1].split("\n")]
        self._opening = opening
        self._commands = [command for command in lines if command is not None]
        self._goal = match[2]
        rng = python_random("textcraft", "expert", seed)
        self._voice = rng.choice(VOICES)
        self._fetch_first = rng.random() < _FETCH_FIRST
        self._steps: list[Step] = []
        self._goal_inputs = ""
        self._last: Step | None = None
        self._looking = False

    def act(self, observation: str) -> tuple[str, str]:
        """See :class:`~fedse.environments.base.Expert`."""
        if not self._take_in(observation):
            self._last, self._looking = None, True
            return self._voice.look, "inventory"
        self._last = step = self._steps.pop(0)
        return self._think(step), step.action

    def _take_in(self, observation: str) -> bool:
        """Bring the plan up to date; false if the observation does not tell where things stand."""
        if observation == self._opening:
            self._plan({})
        elif self._last is not None and observation == _success(self._last):
            if not self._steps:
                raise EnvironmentFault(f"the textcraft expert has crafted {self._goal!r}: the episode is over")
        elif self._looking or observation.startswith(_INVENTORY):
            self._plan(_read_inventory(observation))
        else:
            return False
        self._looking = False
        return True

    def _plan(self, carried: Mapping[str, int]) -> None:
        steps = plan(self._commands, self._goal, carried, fetch_first=self._fetch_first)
        if steps is None:
            raise EnvironmentFault(f"the textcraft expert finds no way to {self._goal!r} by the commands shown")
        self._steps = list(steps)
        self._goal_inputs = next(
            listed(step.command.inputs) for step in steps if isinstance(step, Craft) and step.user is None
        )

    def _think(self, step: Step) -> str:
        reasons = self._why_fetch(step) if isinstance(step, Fetch) else [self._why_craft(step)]
        thoughts = [f"{self._voice.goal.format(self._goal)} {reason}" for reason in reasons]
        return next((thought for thought in thoughts if len(thought.split()) <= _WORDS), thoughts[-1])

    def _why_fetch(self, step: Fetch) -> list[str]:
        """The reason at length and in short."""
        voice, user = self._voice, step.user
        in_goal = voice.needs.format(self._goal_inputs)
        part = voice.part.format(step.wanted, user.output, user.count, listed(user.inputs))
        used_there = dict(user.inputs)[step.name] * ceil(step.wanted / user.count)
        extent = " in all" if step.count > used_there else " more" if step.count < used_there else ""
        fetch = voice.fetch.format(step.name, f"{step.count}{extent}")
        if user.output == self._goal:
            return [f"{in_goal} {fetch}"]
        return [f"{in_goal} {part} {fetch}", f"{part} {fetch}"]

    def _why_craft(self, step: Craft) -> str:
        voice, command = self._voice, step.command
        have = voice.have.format(listed(command.inputs))
        if step.user is None:
            return f"{have} {voice.finish}"
        if step.turns == 1:
            return f"{have} {voice.craft.format(command.output, step.user.output)}"
        return f"{have} {voice.again.format(command.output, step.user.output, step.turn, step.turns)}"


def _success(step: Step) -> str:
    """What the game answers when a step succeeds."""
    if isinstance(step, Fetch):
        return f"Got {step.count} {step.name}"
    return f"Crafted {step.command.count} {NAMESPACE}{written(step.command.output)}"


def _read_inventory(observation: str) -> dict[str, int]:
    if not observation.startswith(_INVENTORY):
        raise EnvironmentFault(f"the textcraft expert looked into the inventory and cannot read {observation!r}")
    return {name: int(count) for name, count in _CARRIED.findall(observation)}
