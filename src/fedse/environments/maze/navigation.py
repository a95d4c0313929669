"""How to walk a maze: by what can be seen on the spot, and by demonstrations that stay close to that.

An agent sees the goal's position, its own position and the walls next to it, and remembers its last move.
:func:`local_move` is the rule that this much knowledge supports.  :func:`plan` uses the map, but among all walks that
arrive in time it takes one that departs from the rule as rarely as possible, so that demonstrations can be learnt from
what the agent sees.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedse.environments.maze.layouts import OPPOSITE, Cell, Layout

#: A cell and the move that led to it.
_State = tuple[Cell, str | None]
#: Departures from the local rule, and the moves.
_Walk = tuple[int, tuple[str, ...]]


def goal_directions(cell: Cell, goal: Cell) -> list[str]:
    """The directions that lead toward the goal, rows before columns; empty at the goal."""
    directions = []
    if goal[0] != cell[0]:
        directions.append("down" if goal[0] > cell[0] else "up")
    if goal[1] != cell[1]:
        directions.append("right" if goal[1] > cell[1] else "left")
    return directions


def local_move(cell: Cell, goal: Cell, exits: Mapping[str, Cell], last: str | None) -> str:
    """The move of an agent that knows only what it sees and its own last move.

    Do not turn back unless in a dead end; go toward the goal, rows before columns, where that is open; otherwise
    straight on, otherwise the first open direction.
    """
    ways = [way for way in exits if last is None or way != OPPOSITE[last]]
    if not ways:
        return next(iter(exits))
    for way in goal_directions(cell, goal):
        if way in ways:
            return way
    return last if last in ways else ways[0]


def plan(layout: Layout, start: Cell, last: str | None, limit: int) -> list[str]:
    """Moves from ``start`` to the goal within ``limit``: fewest departures from the local rule, then fewest moves.

    Dynamic programming over (cell, last move) layer by layer; where the rule itself arrives in time, its walk is
    the plan.  ``limit`` is raised to the shortest distance where that is longer.
    """
    limit = max(limit, layout.distances[start])
    layer: dict[_State, _Walk] = {(start, last): (0, ())}
    best: _Walk | None = None
    for used in range(limit):
        following: dict[_State, _Walk] = {}
        for (cell, came), (departures, moves) in layer.items():
            advised = local_move(cell, layout.goal, layout.exits[cell], came)
            for way, target in layout.exits[cell].items():
                if layout.distances[target] > limit - used - 1:
                    continue
                candidate = (departures + (way != advised), (*moves, way))
                if target == layout.goal:
                    if best is None or candidate[0] < best[0]:
                        best = candidate
                elif (target, way) not in following or candidate[0] < following[target, way][0]:
                    following[target, way] = candidate
        layer = following
    if best is None:
        raise AssertionError(f"no walk of {limit} moves from {start} in layout {layout.name}")
    return list(best[1])
