"""Mazes of our own: seeded corridors of the kind of ``double_t``, on the same grid.

A maze is a pure function of its style and its number.  Numbers below :data:`TRAIN_MAZES` are for training, the next
:data:`TEST_MAZES` are held out.  The two groups cannot share a layout, not even a mirrored one: a hash of the grid (the
same for all its mirror images) decides which group a grid may serve.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedse.environments.maze.layouts import (
    COLUMNS,
    NAMED,
    ROWS,
    STEPS,
    Cell,
    Layout,
    canonical,
    distances_from,
    exits_of,
)
from fedse.seeding import python_random

TRAIN_MAZES, TEST_MAZES = 2000, 475
#: As in ``double_t``.
LONGEST_PATH = 12
#: One trip in so many is held out.
_TEST_PERIOD = 3


@dataclass(frozen=True, slots=True)
class Style:
    """How mazes of a kind look."""

    cells: tuple[int, int]  #: fewest and most free cells aimed at
    corridor: tuple[int, int]  #: shortest and longest corridor, in cells
    loop_chance: float  #: how often a corridor may join another one
    loops: bool  #: whether only mazes with a loop will do


#: Style → its looks; the name is the first half of its task ids.  ``random`` is the kind of ``double_t``.
STYLES: Mapping[str, Style] = {
    "random": Style(cells=(22, 34), corridor=(2, 7), loop_chance=0.15, loops=False),
    "loops": Style(cells=(28, 40), corridor=(2, 7), loop_chance=0.7, loops=True),
    "winding": Style(cells=(26, 38), corridor=(2, 3), loop_chance=0.0, loops=False),
}
DEFAULT_STYLE = "random"

_NAMED_GRIDS = frozenset(canonical(layout.free) for layout in NAMED.values())


@functools.lru_cache(maxsize=512)
def generated(number: int, style: str = DEFAULT_STYLE) -> Layout:
    """Maze ``number`` < TRAIN_MAZES + TEST_MAZES of a style: its layout, with its one start cell."""
    rng = python_random("maze", "generator", 1, *([] if style == DEFAULT_STYLE else [style]), number)
    looks = STYLES[style]
    while True:
        free = _carve(rng, looks)
        if not _serves(free, held_out=number >= TRAIN_MAZES) or (looks.loops and not has_loop(free)):
            continue
        layout = _furnish(style, free, rng)
        if layout is not None:
            return layout


def has_loop(free: frozenset[Cell]) -> bool:
    """Whether one can walk in a circle: a connected grid without a loop has one passage fewer than cells."""
    return sum(len(exits_of(free, cell)) for cell in free) // 2 >= len(free)


def _serves(free: frozenset[Cell], *, held_out: bool) -> bool:
    """Whether a grid is a maze worth playing and belongs to the group asked for."""
    junctions = sum(len(exits_of(free, cell)) > 2 for cell in free)
    grid = canonical(free)
    group = hashlib.sha256(grid.encode()).digest()[0] % 2
    return junctions >= 2 and grid not in _NAMED_GRIDS and group == held_out


def _carve(rng: random.Random, looks: Style) -> frozenset[Cell]:
    """Straight corridors, each growing out of an earlier one and touching no other except in a loop."""
    free = {(rng.randint(1, ROWS - 2), rng.randint(1, COLUMNS - 2))}
    size = rng.randint(*looks.cells)
    for _ in range(80):
        if len(free) >= size:
            break
        origin = rng.choice(sorted(free))
        step = STEPS[rng.choice(list(STEPS))]
        free |= _corridor(free, origin, step, rng.randint(*looks.corridor), may_join=rng.random() < looks.loop_chance)
    return frozenset(free)


def _corridor(free: set[Cell], origin: Cell, step: Cell, length: int, *, may_join: bool) -> set[Cell]:
    """New cells in a straight line from ``origin``; empty when there is no room for two."""
    new: list[Cell] = []
    last = origin
    while len(new) < length:
        cell = (last[0] + step[0], last[1] + step[1])
        if not (0 < cell[0] < ROWS - 1 and 0 < cell[1] < COLUMNS - 1) or cell in free:
            break
        touches = [near for near in exits_of(free, cell).values() if near != last]
        if touches and not may_join:
            break
        new.append(cell)
        if touches:
            break
        last = cell
    return set(new) if len(new) >= 2 else set()


def _furnish(style: str, free: frozenset[Cell], rng: random.Random) -> Layout | None:
    """Goal and start at a drawn distance; ``None`` if the grid has no such pair."""
    distance = rng.choices(range(1, LONGEST_PATH + 1), weights=range(3, LONGEST_PATH + 3))[0]
    goal = rng.choice(sorted(free))
    starts = sorted(cell for cell, moves in distances_from(free, goal).items() if moves == distance)
    return Layout(style, free, goal, (rng.choice(starts),)) if starts else None


@functools.lru_cache(maxsize=8)
def trips(number: int, style: str) -> tuple[Layout, ...]:
    """All trips of a maze in a drawn order: layouts of one grid, each with its goal and its one start cell.

    A trip is a pair of a start and a goal within reach of it.  As in the benchmark, such tasks share one layout, so
    that an agent can come to know it.
    """
    free = generated(number, style).free
    pairs = [
        (goal, start)
        for goal in sorted(free)
        for start, moves in sorted(distances_from(free, goal).items())
        if 1 <= moves <= LONGEST_PATH
    ]
    python_random("maze", "trips", 1, style, number).shuffle(pairs)
    return tuple(Layout(style, free, goal, (start,)) for goal, start in pairs)


def trip_ids(number: int, style: str, *, held_out: bool) -> Sequence[str]:
    """Ids of the trips to train on, or of those held out; a trip and its way back are on one side."""
    places = trips(number, style)
    chosen = []
    sides: dict[frozenset[object], bool] = {}
    for index, trip in enumerate(places):
        ends = frozenset((trip.goal, trip.starts[0]))
        if sides.setdefault(ends, len(sides) % _TEST_PERIOD == _TEST_PERIOD - 1) is held_out:
            chosen.append(f"{style}-{number}/{index}")
    return chosen
