"""Choosing from a list without a draw: the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Entry = TypeVar("_Entry")


def spread(entries: Sequence[_Entry], count: int) -> list[_Entry]:
    """``count`` entries at even distances, in order; all of them if there are no more than that."""
    if len(entries) <= count:
        return list(entries)
    return [entries[position * len(entries) // count] for position in range(count)]


def in_turns(rows: Sequence[Sequence[_Entry]]) -> list[_Entry]:
    """The first entry of every row, then the second of every row, and so on."""
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]
