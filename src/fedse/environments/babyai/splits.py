"""Which worlds belong to which split.

The seeds are package data, because only worlds that the expert solves within the turn limit serve as tasks, and finding
them takes minutes: ``python scripts/babyai_splits.py`` makes them anew.  It also sees to it that no world of ``train``
begins like one of ``test``; the splits of the paper's sizes are parts of these two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources

from fedse.errors import ConfigError
from fedse.seeding import python_random
from fedse.types import Task

DATA = "splits.json"
#: Split → the one that it is the beginning of, and how many tasks of each level it has.  45 and 5 for each of 18 levels
#: are the demonstrations and the test tasks of the Fed-SE paper, 810 and 90.
_SPLITS = {"train": ("train", None), "test": ("test", None), "paper-train": ("train", 45), "paper-test": ("test", 5)}


@functools.cache
def split_seeds() -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Level → ``train`` or ``test`` → seeds, as shipped."""
    text = resources.files(__package__).joinpath(DATA).read_text(encoding="utf-8")
    seeds: dict[str, dict[str, list[int]]] = json.loads(text)
    return seeds


@functools.lru_cache(maxsize=64)
def split_tasks(levels: tuple[str, ...]) -> Mapping[str, tuple[Task, ...]]:
    """Split → tasks of some levels, evenly mixed so that any beginning of a split is a fair sample of it.

    Raises:
        ConfigError: if a level has no tasks.
    """
    seeds = split_seeds()
    empty = [level for level in levels if level not in seeds]
    if empty:
        raise ConfigError(
            f"babyai: there are no tasks of {', '.join(empty)}, only worlds of them to play",
            f"choose among {', '.join(seeds)}",
        )
    return {
        split: _mixed({level: seeds[level][whole][:count] for level in levels})
        for split, (whole, count) in _SPLITS.items()
    }


def _mixed(seeds: Mapping[str, Sequence[int]]) -> tuple[Task, ...]:
    """One task of every level, then the next of every level, …; each time in another order of levels."""
    mixed = []
    for number in range(max(map(len, seeds.values()))):
        levels = [level for level in seeds if number < len(seeds[level])]
        python_random("babyai", "splits", number).shuffle(levels)
        mixed += [Task("babyai", f"{level}/{seeds[level][number]}") for level in levels]
    return tuple(mixed)
