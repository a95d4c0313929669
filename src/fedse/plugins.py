"""What installed packages add to fedse, by entry points."""

from __future__ import annotations

import functools
import sys
from importlib import metadata


def installed(group: str) -> dict[str, list[metadata.EntryPoint]]:
    """Name → entry points of that name in a group; several if distributions clash.  Nothing is imported."""
    return _scan(group, tuple(sys.path))  # scanning takes milliseconds, and some ask for every episode


def distribution(point: metadata.EntryPoint) -> str:
    """The name of the distribution that declares an entry point."""
    return point.dist.name if point.dist is not None else "unknown"


@functools.lru_cache(maxsize=8)
def _scan(group: str, _path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found
