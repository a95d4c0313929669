"""What a cell looks like, as one byte: nothing, a wall, or a thing of a colour.

A world is a ``bytes`` object with one such code per cell, so that a row of an agent's view is a slice and two worlds
are compared at once.
"""

from __future__ import annotations

UNSEEN, EMPTY, WALL = range(3)

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
#: A door counts as three kinds.  Their order is relied on below.
KINDS = ("key", "ball", "box", "open door", "closed door", "locked door")
_FIRST = WALL + 1
_COUNT = len(COLOURS)

#: Code → name, such as ``red closed door``; empty for what has none.
NAMES = ("",) * _FIRST + tuple(f"{colour} {kind}" for kind in KINDS for colour in COLOURS)

#: The codes of each kind of thing.
KEYS, BALLS, BOXES, OPEN, CLOSED, LOCKED = (
    range(_FIRST + kind * _COUNT, _FIRST + (kind + 1) * _COUNT) for kind in range(len(KINDS))
)
PORTABLE = range(KEYS.start, BOXES.stop)
DOORS = range(OPEN.start, LOCKED.stop)
#: What the description calls facing something.
BARRIERS = (WALL, *BOXES)

#: Code → 1 if nothing can be seen behind it (walls and doors that are not open), for ``bytes.translate``.
OPAQUE = bytes(code == WALL or code in CLOSED or code in LOCKED for code in range(256))
#: Code → 1 if a path does not lead over it; a door counts as a way even while it is shut.
IN_THE_WAY = bytes(code == WALL or code in PORTABLE for code in range(256))


def code_of(kind: str, colour: str) -> int:
    """The code of a thing; ``kind`` is one of :data:`KINDS`."""
    return _FIRST + KINDS.index(kind) * _COUNT + COLOURS.index(colour)


def unlocks(carried: int, door: int) -> bool:
    """Whether the carried thing (:data:`EMPTY` for none) is the key of a door's colour."""
    return carried in KEYS and carried - _FIRST == (door - _FIRST) % _COUNT


def toggled(door: int, carried: int) -> int:
    """The door's code after it is used with ``carried`` in hand; a locked door stays as it is without its key."""
    if door in LOCKED:
        return door - 2 * _COUNT if unlocks(carried, door) else door
    return door - _COUNT if door in CLOSED else door + _COUNT
