"""Trips: tasks that share one maze, so that an agent can come to know it.

The benchmark is of that kind: one layout, and starts that differ.  A maze of trips is a generated one, numbered as in
:mod:`~fedse.environments.maze.generator`; every pair of a start and a goal within reach of it is a trip.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from fedse.environments.maze.generator import LONGEST_PATH, generated
from fedse.environments.maze.layouts import Layout, distances_from
from fedse.seeding import python_random

#: One trip in so many is held out.
_TEST_PERIOD = 3


@functools.lru_cache(maxsize=8)
def trips(number: int, style: str) -> tuple[Layout, ...]:
    """All trips of a maze in a drawn order: layouts of one grid, each with its goal and its one start cell."""
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
