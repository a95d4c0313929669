"""What an agent is told and what it may do, as a function of what it sees.

All texts are those of AgentGym's server, spaces included.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.missions import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE
from fedse.environments.babyai.paths import AREA, Path, find_paths, place_of
from fedse.environments.babyai.world import OWN, VIEW

CHECK = "check available actions"


@dataclass(frozen=True, slots=True)
class Sight:
    """A visible thing."""

    code: int  #: what it looks like
    ahead: int  #: cells in front of the agent
    right: int  #: cells to the right of the agent; negative to the left

    @property
    def name(self) -> str:
        """Such as ``red key`` or ``red closed door``."""
        return cells.NAMES[self.code]

    @property
    def place(self) -> int:
        """Its cell for the search of paths."""
        return place_of(self.ahead, self.right)


@dataclass(frozen=True, slots=True)
class Perception:
    """All that the text layer knows of a state."""

    sights: tuple[Sight, ...]  #: the visible things, nearest first
    description: str  #: the state in words
    actions: Mapping[str, Path]  #: action in words → the primitive actions it stands for, in the order of the list
    problems: Mapping[str, str]  #: what is answered to some actions that are not possible now
    listing: str  #: the line with the available actions, with the newline before it


#: The places of a view but the agent's own, as (index, ahead, right): the original scans from the farthest row to the
#: nearest and each from left to right, and then sorts by distance.
_SCAN = sorted(
    (
        (row * VIEW + column, row, column - OWN)
        for row in reversed(range(VIEW))
        for column in range(VIEW)
        if (row, column) != (0, OWN)
    ),
    key=lambda entry: entry[1] + abs(entry[2]),
)


@functools.lru_cache(maxsize=2048)
def perceive(view: bytes, heading: int, *, parity: bool) -> Perception:
    """Describe a view (see :meth:`~fedse.environments.babyai.world.World.view`).

    Args:
        view: what the agent sees; its own cell shows what it carries.
        heading: the absolute heading, on which the bounds of the original's search for paths depend.
        parity: print a dict instead of a number where the original does.
    """
    sights = tuple(Sight(code, ahead, right) for index, ahead, right in _SCAN if (code := view[index]) > cells.WALL)
    barrier = next(
        ((row, view[row * VIEW + OWN]) for row in range(1, VIEW) if view[row * VIEW + OWN] in cells.BARRIERS), None
    )
    actions, problems = _Options(view, heading, sights, barrier, parity).build()
    return Perception(
        sights=sights,
        description=_describe(view, sights, barrier),
        actions=actions,
        problems=problems,
        listing="\nAvailable actions: [" + ", ".join(f'"{action}"' for action in actions) + "]",
    )


def _describe(view: bytes, sights: tuple[Sight, ...], barrier: tuple[int, int] | None) -> str:
    parts = ["You cannot see any objects within sight."]
    if sights or cells.WALL in view:
        parts = ["In front of you in this room, you can see several objects: "]
    seen: Counter[str] = Counter()
    for sight in sights:
        seen[sight.name] += 1
        parts.append(f"There is a {sight.name} {seen[sight.name]} {_where(sight)}  ")
    parts.append("The room has walls around you. ")
    if barrier is not None:
        distance, code = barrier
        parts.append(f"You are facing a {'wall' if code == cells.WALL else 'box'} {distance} steps away. ")
    carried = cells.NAMES[view[OWN]]
    parts.append(f"You are carrying a {carried}." if carried else "You are not carrying anything.")
    return "".join(parts)


def _where(sight: Sight) -> str:
    if sight.right == 0:
        return f"right in front of you {sight.ahead} steps away."
    side = "right" if sight.right > 0 else "left"
    return f"{sight.ahead} steps in front of you and {abs(sight.right)} steps to your {side}."


class _Options:
    """Builds the available actions, and the answers to those that are not, in the original's order."""

    def __init__(
        self, view: bytes, heading: int, sights: tuple[Sight, ...], barrier: tuple[int, int] | None, parity: bool
    ) -> None:
        blocked = bytearray(AREA)
        for sight in sights:
            blocked[sight.place] = cells.IN_THE_WAY[sight.code]
        for index, ahead, right in _SCAN:
            if view[index] == cells.WALL:
                blocked[place_of(ahead, right)] = 1
        self._sights = sights
        self._facing, self._onto = find_paths(
            heading,
            bytes(blocked),
            facing={sight.place for sight in sights},
            onto={sight.place for sight in sights if sight.code in cells.OPEN},
        )
        self._blocked_ahead = barrier is not None and barrier[0] == 1
        self._ahead = view[VIEW + OWN]
        self._carried = view[OWN]
        self._parity = parity
        self._actions: dict[str, Path] = {"turn left": (LEFT,), "turn right": (RIGHT,)}
        self._problems: dict[str, str] = {}

    def build(self) -> tuple[dict[str, Path], dict[str, str]]:
        """(actions, problems)."""
        if self._blocked_ahead:
            self._problems["move forward"] = "There is a barrier in front of you, you can't move forward."
        else:
            self._actions["move forward"] = (FORWARD,)
        if self._carried == cells.EMPTY:
            self._approach("pickup", [sight for sight in self._sights if sight.code in cells.PORTABLE], (PICKUP,))
            self._problems["drop"] = "You cannot drop the object, as you are not carrying anything."
        elif cells.IN_THE_WAY[self._ahead]:
            self._problems["drop"] = "You cannot drop the object, as there is already an object in front of you."
        else:
            self._actions["drop"] = (DROP,)
        self._doors()
        self._approach("go to", list(self._sights), ())
        self._actions[CHECK] = ()
        return self._actions, self._problems

    def _approach(self, verb: str, sights: list[Sight], then: Path) -> None:
        """Actions on things next to them.  Only reachable things are numbered, unlike in the description."""
        reached: Counter[str] = Counter()
        for sight in sights:
            path = self._facing.get(sight.place)
            action = f"{verb} {sight.name} {reached[sight.name] + 1}"
            if path is None:
                self._problems[action] = f"You cannot {action}, as there is no path leading to it."
            else:
                self._actions[action] = path + then
                reached[sight.name] += 1

    def _doors(self) -> None:
        seen: Counter[str] = Counter()
        for sight in self._sights:
            if sight.code not in cells.DOORS:
                continue
            seen[sight.name] += 1
            through = f"go through {sight.name} {seen[sight.name]}"
            if sight.code in cells.OPEN:
                path = self._onto.get(sight.place)
                if path is None:
                    self._problems[through] = f"You cannot {through}, as there is no path leading to it."
                else:
                    self._actions[through] = path
                continue
            if sight.code in cells.CLOSED:
                self._problems[through] = f"You cannot {through}, as it is closed. You should toggle it first."
            self._shut_door(sight, f"toggle and {through}", str(dict(seen)))

    def _shut_door(self, sight: Sight, action: str, counts: str) -> None:
        obstacle = self._lock(sight)
        if obstacle is not None:
            self._problems[action] = f"You cannot {action}, as {obstacle}."
            return
        path = self._facing.get(sight.place)
        if path is None:
            said = f"toggle and go through {sight.name} {counts}" if self._parity else action
            self._problems[action] = f"You cannot {said}, as there is no path leading to it."
            return
        self._actions[action] = (*path, TOGGLE, FORWARD)
        if not path:
            self._actions["toggle"] = (TOGGLE,)

    def _lock(self, door: Sight) -> str | None:
        """Why a door cannot be unlocked, if it is locked and cannot."""
        if door.code not in cells.LOCKED or cells.unlocks(self._carried, door.code):
            return None
        if self._carried in cells.KEYS:
            return "the color of the key you are carrying does not match the color of door"
        return "you are not carrying a key"
