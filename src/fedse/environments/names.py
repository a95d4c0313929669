"""Names that users type, and what to say when one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fedse.errors import UnknownNameError


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the known names closest to ``name``."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else "no similar name is known"


def split_of(environment: str, split: str, known: Iterable[str]) -> str:
    """``split`` itself, once it is known to exist.

    Raises:
        UnknownNameError: otherwise; the message offers the nearest names and lists all.
    """
    splits = list(known)
    if split not in splits:
        raise UnknownNameError(
            f"{environment} has no split named {split!r}", f"{nearest(split, splits)}; its splits: {', '.join(splits)}"
        )
    return split
