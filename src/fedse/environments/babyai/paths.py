"""The shortest ways through a view, with the original's bounds and its choice among equally long ones.

Cells are relative to the agent: ``u`` cells ahead and ``v`` cells to the right.  The original searches anew for every
target; since its search does not depend on the target but for where it stops, one search serves all targets here.
"""

from __future__ import annotations

import functools
from collections.abc import Collection

from fedse.environments.babyai.missions import FORWARD, LEFT, RIGHT

#: The searched area reaches from one cell behind the agent to six ahead, and from three to its left to four to its
#: right.
_BEHIND, _LEFT = 1, 3
_SIDE = 8
AREA = _SIDE * _SIDE

#: A cell and a direction (0 ahead, then clockwise) as ``4 * place + direction``.
_State = int
Path = tuple[int, ...]


def place_of(u: int, v: int) -> int:
    """The number of a relative cell."""
    return (u + _BEHIND) * _SIDE + v + _LEFT


_MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
_START: _State = 4 * place_of(0, 0)


def _neighbour(state: _State) -> tuple[int, int]:
    """The relative cell in front of a state."""
    place, direction = divmod(state, 4)
    return place // _SIDE - _BEHIND + _MOVES[direction][0], place % _SIDE - _LEFT + _MOVES[direction][1]


def _in_area(u: int, v: int) -> bool:
    return -_BEHIND <= u < _SIDE - _BEHIND and -_LEFT <= v < _SIDE - _LEFT


#: State → the place in front of it, or -1 beyond the area.
_FRONT = tuple(place_of(*_neighbour(state)) if _in_area(*_neighbour(state)) else -1 for state in range(4 * AREA))


@functools.cache
def _successors(heading: int) -> tuple[tuple[tuple[_State, int], ...], ...]:
    """State → (next state, action) in the original's order: forward, left, right.

    The original computes the bounds of its search in absolute coordinates and is one off where they count downward.
    Hence a cell behind the agent belongs to the area only when it looks right or down, and the fourth column to the
    right only when it looks down or left.
    """
    behind = -1 if heading in (0, 1) else 0
    right = 4 if heading in (1, 2) else 3
    table = []
    for state in range(4 * AREA):
        direction = state % 4
        u, v = _neighbour(state)
        turns = ((state - direction + (direction - 1) % 4, LEFT), (state - direction + (direction + 1) % 4, RIGHT))
        inside = behind <= u < _SIDE - _BEHIND and -_LEFT <= v <= right
        table.append((((4 * place_of(u, v) + direction, FORWARD), *turns)) if inside else turns)
    return tuple(table)


def find_paths(
    heading: int, blocked: bytes, facing: Collection[int], onto: Collection[int]
) -> tuple[dict[int, Path], dict[int, Path]]:
    """Breadth-first search from the agent.

    As in the original, a state counts as visited when it is taken from the queue, not when it is put there, and its
    predecessor is the last one that put it there.  This decides between equally long ways and can make one longer.

    Args:
        heading: absolute heading of the agent, for the bounds.
        blocked: place → 1 if no way leads over it; length :data:`AREA`.
        facing: places to look at from next to them.
        onto: places to stand on.

    Returns:
        For the reachable places of ``facing`` and of ``onto`` the primitive actions that lead there.
    """
    successors = _successors(heading)
    came: dict[_State, tuple[_State, int]] = {}
    visited = bytearray(4 * AREA)
    queue = [_START]
    ways_facing: dict[int, Path] = {}
    ways_onto: dict[int, Path] = {}
    for state in queue:
        visited[state] = 1
        front, place = _FRONT[state], state // 4
        if front in facing and front not in ways_facing:
            ways_facing[front] = _path(came, state)
        if place in onto and place not in ways_onto:
            ways_onto[place] = _path(came, state)
        if len(ways_facing) == len(facing) and len(ways_onto) == len(onto):
            break
        for following, action in successors[state]:
            if not visited[following] and not blocked[following // 4]:
                queue.append(following)
                came[following] = (state, action)
    return ways_facing, ways_onto


def _path(came: dict[_State, tuple[_State, int]], state: _State) -> Path:
    actions = []
    while state != _START:
        state, action = came[state]
        actions.append(action)
    return tuple(reversed(actions))
