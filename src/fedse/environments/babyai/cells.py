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

_BOX = _FIRST + 2 * _COUNT
_OPEN = _FIRST + 3 * _COUNT
_CLOSED = _FIRST + 4 * _COUNT
_LOCKED = _FIRST + 5 * _COUNT

#: Code → 1 if nothing can be seen behind it (walls and doors that are not open), for ``bytes.translate``.
OPAQUE = bytes(code == WALL or _CLOSED <= code < _LOCKED + _COUNT for code in range(256))
#: Code → 1 if a path does not lead over it; a door counts as a way even while it is shut.
IN_THE_WAY = bytes(WALL <= code < _OPEN for code in range(256))


def code_of(kind: str, colour: str) -> int:
    """The code of a thing; ``kind`` is one of :data:`KINDS`."""
    return _FIRST + KINDS.index(kind) * _COUNT + COLOURS.index(colour)


def is_portable(code: int) -> bool:
    """Keys, balls and boxes."""
    return _FIRST <= code < _OPEN


def is_key(code: int) -> bool:
    """Keys."""
    return _FIRST <= code < _FIRST + _COUNT


def is_barrier(code: int) -> bool:
    """Walls and boxes: what the description calls facing something."""
    return code == WALL or _BOX <= code < _OPEN


def is_door(code: int) -> bool:
    """Doors in any state."""
    return code >= _OPEN


def is_open(code: int) -> bool:
    """Open doors."""
    return _OPEN <= code < _CLOSED


def is_closed(code: int) -> bool:
    """Doors that are shut but not locked."""
    return _CLOSED <= code < _LOCKED


def is_locked(code: int) -> bool:
    """Locked doors."""
    return code >= _LOCKED


def unlocks(carried: int, door: int) -> bool:
    """Whether the carried thing (:data:`EMPTY` for none) is the key of a door's colour."""
    return is_key(carried) and carried - _FIRST == (door - _FIRST) % _COUNT


def toggled(door: int, carried: int) -> int:
    """The door's code after it is used with ``carried`` in hand; a locked door stays as it is without its key."""
    if is_locked(door):
        return door - 2 * _COUNT if unlocks(carried, door) else door
    return door - _COUNT if is_closed(door) else door + _COUNT
