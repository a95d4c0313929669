"""The maze expert: a privileged planner whose thoughts use only what an agent could have seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fedse.environments.maze.layouts import OPPOSITE, Cell, Layout
from fedse.environments.maze.navigation import goal_directions, local_move, plan
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

_POSITION = re.compile(r"Your current position is at position (\d+), (\d+)\.")
_SIDES = {"left": "the left", "right": "the right", "up": "above", "down": "below"}


@dataclass(frozen=True, slots=True)
class _Phrases:
    """One way of speaking, kept through an episode."""

    goal: str
    open: str
    start: str
    came: str
    toward: str
    only: str
    on: str
    back: str
    other: str
    seen: str


_VOICES = (
    _Phrases(
        goal="The goal is {}.",
        open="I can go {}.",
        start="I have just started.",
        came="I came from {}.",
        toward="{} leads toward the goal, so I go {}.",
        only="The only way on is {}.",
        on="No way leads toward the goal, so I go {}.",
        back="This is a dead end, so I go back {}.",
        other="I try {} first.",
        seen="I have already been {}, so I go {}.",
    ),
    _Phrases(
        goal="Goal: {}.",
        open="Open: {}.",
        start="This is my first move.",
        came="I came from {}.",
        toward="{} is toward the goal, so I take {}.",
        only="Only {} is left to take.",
        on="Nothing open is toward the goal, so I take {}.",
        back="Dead end, so I turn back {}.",
        other="I take {} to look for a way.",
        seen="I know {} already, so I take {}.",
    ),
    _Phrases(
        goal="The goal lies {}.",
        open="Free ways: {}.",
        start="I am at the start.",
        came="I came from {}.",
        toward="{} brings me nearer, so I move {}.",
        only="I must move {}.",
        on="I cannot get nearer now, so I move {}.",
        back="It is a dead end, so I return {}.",
        other="I move {} to look for a way.",
        seen="I have tried {} before, so I move {}.",
    ),
)


class MazeExpert:
    """Follows :func:`~fedse.environments.maze.navigation.plan` and says why in terms of what is visible.

    It knows the map (a privileged expert); its thoughts mention the goal's direction, the open ways, where it came
    from, and cells that it has visited.
    """

    def __init__(self, layout: Layout, limit: int, seed: int) -> None:
        self._layout = layout
        self._remaining = limit
        self._voice = python_random("maze", "expert", seed).choice(_VOICES)
        self._last: str | None = None
        self._plan: list[str] = []
        self._expected: Cell | None = None
        self._visited: set[Cell] = set()

    def act(self, observation: str) -> tuple[str, str]:
        """The next (thought, action).

        Raises:
            EnvironmentFault: if the observation names no cell of the maze, as after the end of the episode.
        """
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
        came = voice.start if self._last is None else voice.came.format(_SIDES[OPPOSITE[self._last]])
        return " ".join(
            (
                voice.goal.format(" and ".join(goal_directions(cell, self._layout.goal))),
                voice.open.format(_either(list(exits))),
                came,
                self._reason(cell, move, exits),
            )
        )

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
            return voice.toward.format(move.capitalize(), move)
        if move != advised:
            return voice.other.format(move)
        if len([way for way in exits if way != back]) == 1:
            return voice.only.format(move)
        return voice.on.format(move)


def _either(ways: list[str]) -> str:
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} or {ways[-1]}"
