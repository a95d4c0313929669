"""Mazes as grids: the named layouts of LMRL-Gym, and the facts about a layout that play and experts need.

Cells are (row, column), 0-based; rows grow downwards.  The outermost cells are walls.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass

from fedse.environments.base import StepResult

Cell = tuple[int, int]

ROWS, COLUMNS = 10, 13
#: Direction → step, in the order in which the original names the walls around a cell.
STEPS: Mapping[str, Cell] = {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}
OPPOSITE: Mapping[str, str] = {"right": "left", "left": "right", "up": "down", "down": "up"}


@dataclass(frozen=True)
class Layout:
    """One maze."""

    name: str  #: layout name, the first half of a task id
    free: frozenset[Cell]  #: the cells that can be entered
    goal: Cell  #: the cell to reach
    starts: tuple[Cell, ...]  #: the legal start cells, in the order of their task numbers

    @functools.cached_property
    def exits(self) -> Mapping[Cell, Mapping[str, Cell]]:
        """For every free cell: open direction → the cell it leads to, in the order of :data:`STEPS`."""
        return {cell: exits_of(self.free, cell) for cell in self.free}

    @functools.cached_property
    def distances(self) -> Mapping[Cell, int]:
        """Moves to the goal from every cell that can reach it (breadth-first search)."""
        return distances_from(self.free, self.goal)


def exits_of(free: Set[Cell], cell: Cell) -> dict[str, Cell]:
    """Open direction → neighbouring cell, in the order of :data:`STEPS`."""
    row, column = cell
    around = {name: (row + down, column + right) for name, (down, right) in STEPS.items()}
    return {name: target for name, target in around.items() if target in free}


def distances_from(free: Set[Cell], origin: Cell) -> dict[Cell, int]:
    """Moves from ``origin`` to every reachable cell, by breadth-first search."""
    distances = {origin: 0}
    queue = deque([origin])
    while queue:
        cell = queue.popleft()
        for target in exits_of(free, cell).values():
            if target not in distances:
                distances[target] = distances[cell] + 1
                queue.append(target)
    return distances


def canonical(free: Set[Cell]) -> str:
    """A name for a grid up to mirroring: the smallest of its four mirror images, as rows of ``#`` and ``.``."""
    rows = picture(free).split("\n")
    mirrored = [row[::-1] for row in rows]
    return min("\n".join(image) for image in (rows, rows[::-1], mirrored, mirrored[::-1]))


def picture(free: Set[Cell]) -> str:
    """The grid as lines of ``#`` (wall) and ``.`` (free)."""
    return "\n".join("".join(".#"[(row, column) not in free] for column in range(COLUMNS)) for row in range(ROWS))


def _cells(*runs: tuple[range, range]) -> frozenset[Cell]:
    return frozenset((row, column) for rows, columns in runs for row in rows for column in columns)


def _line(row: int, columns: range | list[int]) -> list[Cell]:
    return [(row, column) for column in columns]


def _double_t() -> Layout:
    free = _cells(
        (range(1, 2), range(1, 6)),
        (range(1, 2), range(7, 12)),
        (range(1, 5), range(3, 4)),
        (range(1, 5), range(9, 10)),
        (range(5, 6), range(3, 10)),
        (range(6, 9), range(6, 7)),
    )
    # The order of AgentGym's game numbers 0..24.
    starts = (
        _line(1, range(1, 6))
        + _line(1, range(7, 12))
        + [(2, 3), (3, 3), (4, 3)]
        + _line(5, range(3, 7))
        + [(6, 6), (7, 6)]
        + _line(5, range(7, 10))
        + [(4, 9), (3, 9), (2, 9)]
    )
    return Layout("double_t", free, (8, 6), tuple(starts))


def _plain(name: str, free: frozenset[Cell], goal: Cell) -> Layout:
    return Layout(name, free, goal, tuple(sorted(free - {goal})))


DOUBLE_T = _double_t()
T = _plain("t", _cells((range(1, 2), range(1, 12)), (range(2, 9), range(6, 7))), (8, 6))
U = _plain("u", _cells((range(1, 2), range(1, 12)), (range(1, 9), range(11, 12)), (range(8, 9), range(1, 12))), (8, 1))
NAMED: Mapping[str, Layout] = {layout.name: layout for layout in (DOUBLE_T, T, U)}


#: The accepted actions; the original matches them exactly, case included.
ACTIONS = {f"move {direction}": direction for direction in ("left", "right", "up", "down")}

#: In the order in which the original names walls.
_PHRASES = {"right": "to your right", "left": "to your left", "up": "above you", "down": "below you"}


class Place:
    """One cell: what stepping onto it (or staying on it) answers, and where the accepted actions lead."""

    __slots__ = ("exits", "observation", "result")

    def __init__(self, observation: str, *, goal: bool) -> None:
        self.observation = observation
        self.result = StepResult("Success\n", 1.0, True) if goal else StepResult(observation, 0.0, False)
        self.exits: dict[str, Place] = {}


@functools.lru_cache(maxsize=512)
def board(layout: Layout) -> dict[Cell, Place]:
    """All places of a layout, linked."""
    places = {cell: Place(describe(layout, cell), goal=cell == layout.goal) for cell in layout.free}
    for cell, place in places.items():
        exits = layout.exits[cell]
        place.exits = {action: places[exits[way]] for action, way in ACTIONS.items() if way in exits}
    return places


def describe(layout: Layout, cell: Cell) -> str:
    """The original's observation of a cell (AgentGym's variant: no newline at the end)."""
    walls = [phrase for direction, phrase in _PHRASES.items() if direction not in layout.exits[cell]]
    if not walls:
        around = "There are no walls near you."
    elif len(walls) == 1:
        around = f"There is a wall {walls[0]}."
    else:
        around = f"There are walls {', '.join(walls)}."
    return (
        f"The goal is at position {layout.goal[0]}, {layout.goal[1]}. "
        f"Your current position is at position {cell[0]}, {cell[1]}. {around}"
    )
