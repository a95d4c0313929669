"""The maze expert: a privileged planner whose thoughts use only what an agent could have seen."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fedse.environments.maze.layouts import OPPOSITE, Cell, Layout
from fedse.environments.maze.navigation import goal_directions, local_move, plan
from fedse.environments.voices import voices
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

_POSITION = re.compile(r"Your current position is at position (\d+), (\d+)\.")
SIDES = {"left": "left", "right": "right", "up": "above", "down": "below"}


# Short, because every token of a thought is sampled in each turn and trained on in each round; in the words of the
# actions, so that a small model can copy its decision from its reason; and with what a conclusion rests on right before
# it (two numbers before a direction, the walls before the open sides), because a small model concludes far better from
# what it has just copied than from what it must look up.
VOICES = voices(
    row=("Row {} to {}: {}.", "From row {} to {}: {}."),
    column=("Column {} to {}: {}.", "From column {} to {}: {}."),
    level=("same", "there"),
    sides=("Walls {}; open {}.", "Blocked {}; free {}."),
    start=("First move.", "At the start."),
    came=("Came from {}.", "Back is {}."),
    toward=("{} is nearer.", "{} gets closer."),
    only=("Only {} is left.", "I must go {}."),
    on=("{} leads on.", "{} goes on."),
    back=("Dead end, back {}.", "Dead end, return {}."),
    other=("Try {}.", "Explore {}."),
    seen=("Been {}, so {}.", "I know {}, so {}."),
)


class MazeExpert:
    """Follows :func:`~fedse.environments.maze.navigation.plan` and says why in terms of what is visible.

    It knows the map (a privileged expert); its thoughts mention the goal's direction, the open ways, where it came
    from, and cells that it has visited.
    """

    def __init__(self, layout: Layout, limit: int, seed: int) -> None:
        self._layout = layout
        self._remaining = limit
        self._voice = python_random("maze", "expert", seed).choice(VOICES)
        self._last: str | None = None
        self._plan: list[str] = []
        self._expected: Cell | None = None
        self._visited: set[Cell] = set()

    def act(self, observation: str) -> tuple[str, str]:
        """See :class:`~fedse.environments.base.Expert`."""
        match = _POSITION.search(observation)
        cell = (int(match[1]), int(match[2])) if match else None
        if cell is None or cell not in self._layout.distances or cell == self._layout.goal:
            raise EnvironmentFault(f"the maze expert cannot act on the observation {observation!r}")
        if cell != self._expected:
            self._plan = plan(self._layout, cell, self._last, self._remaining)
        self._visited.add(cell)
        move = self._plan.pop(0)
        thought = self._think(cell, move)
        self._last, self._expected = move, self._layout.exits[cell][move]
        self._remaining -= 1
        return thought, f"move {move}"

    def _think(self, cell: Cell, move: str) -> str:
        voice = self._voice
        exits = self._layout.exits[cell]
        came = voice.start if self._last is None else voice.came.format(SIDES[OPPOSITE[self._last]])
        return " ".join(
            (
                self._way(voice.row, cell[0], self._layout.goal[0], "up", "down"),
                self._way(voice.column, cell[1], self._layout.goal[1], "left", "right"),
                voice.sides.format(", ".join(way for way in OPPOSITE if way not in exits) or "none", ", ".join(exits)),
                came,
                self._reason(cell, move, exits),
            )
        )

    def _way(self, phrase: str, here: int, goal: int, less: str, more: str) -> str:
        return phrase.format(here, goal, self._voice.level if here == goal else less if goal < here else more)

    def _reason(self, cell: Cell, move: str, exits: Mapping[str, Cell]) -> str:
        voice = self._voice
        toward = goal_directions(cell, self._layout.goal)
        back = OPPOSITE[self._last] if self._last else None
        if move == back:
            return (voice.back if len(exits) == 1 else voice.other).format(move)
        advised = local_move(cell, self._layout.goal, exits, self._last)
        if move != advised and exits[advised] in self._visited:
            return voice.seen.format(advised, move)
        if move in toward:
            return voice.toward.format(move.capitalize())
        if move != advised:
            return voice.other.format(move)
        if len([way for way in exits if way != back]) == 1:
            return voice.only.format(move)
        return voice.on.format(move.capitalize())
