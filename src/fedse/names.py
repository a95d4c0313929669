"""What to say when a name that a user typed is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fedse.errors import UnknownNameError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that offers the nearest known names, with a space after it; empty if none is near."""
    nearest = difflib.get_close_matches(name, list(known))
    return f"did you mean {' or '.join(nearest)}? " if nearest else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown name of a kind ("preset", "filter", …); offers the nearest names and lists all."""
    names = list(known)
    return UnknownNameError(f"there is no {kind} {name!r}", f"{did_you_mean(name, names)}known: {', '.join(names)}")
