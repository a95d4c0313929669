"""Find the worlds that BabyAI's splits are made of, and write them into the package.

    python scripts/babyai_splits.py [LEVEL ...]

A world serves as a task if the expert carries out its mission within the turn limit.  Seeds are taken in ascending
order.  `train` and `test` begin by the rule of AgentGym's data, the first 45 for train and the next 5 for test, and
go on with seeds from 2000 and from 1000.  They take only worlds that begin otherwise than all that they hold, in
either (small rooms have few arrangements).  Without arguments all 18 levels of the benchmark are made, otherwise
those named.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import fedse.environments.babyai.splits as splits
from fedse.environments.babyai.expert import BabyAIExpert
from fedse.environments.babyai.generation import scene
from fedse.environments.babyai.levels import BENCHMARK_LEVELS, LEVELS, MAX_TURNS
from fedse.environments.babyai.missions import Status
from fedse.environments.babyai.perception import perceive
from fedse.environments.babyai.world import World
from fedse.storage import atomic_write

FIRST_TRAIN, FIRST_TEST, TEST, TRAIN = 45, 5, 28, 60
#: Seeds in each range.
RANGE = 1000


def solves(level: str, seed: int) -> bool:
    """Whether the expert succeeds within the turn limit."""
    world = World(scene(level, seed))
    expert = BabyAIExpert(world, seed=0)
    for _ in range(MAX_TURNS):
        _, action = expert.act("")
        world.run(perceive(world.view(), world.heading, parity=False).actions[action])
        if world.over:
            break
    return world.status is Status.SUCCESS


def beginning(level: str, seed: int) -> Hashable:
    """What makes two worlds the same task."""
    world = scene(level, seed)
    return world.mission, world.codes, world.position, world.heading, world.carried


def solved(level: str, start: int) -> Iterator[int]:
    """Solved seeds of a range."""
    return (seed for seed in range(start, start + RANGE) if solves(level, seed))


def unlike(known: set[Hashable], level: str, seeds: Iterable[int]) -> Iterator[int]:
    """The seeds whose worlds begin otherwise than all known ones, to which theirs are added."""
    for seed in seeds:
        if beginning(level, seed) not in known:
            known.add(beginning(level, seed))
            yield seed


def level_splits(level: str) -> dict[str, list[int]]:
    """Split → seeds of a level."""
    first = list(islice(solved(level, 0), FIRST_TRAIN + FIRST_TEST))
    train, test = first[:FIRST_TRAIN], first[FIRST_TRAIN:]
    known: set[Hashable] = set()
    return {
        "test": list(islice(unlike(known, level, chain(test, solved(level, RANGE))), TEST)),
        "train": list(islice(unlike(known, level, chain(train, solved(level, 2 * RANGE))), TRAIN)),
    }


def main() -> None:
    """Make the file, or the named levels of it."""
    chosen = sys.argv[1:] or BENCHMARK_LEVELS
    path = Path(splits.__file__).with_name(splits.DATA)
    made = dict(splits.split_seeds()) if sys.argv[1:] else {}
    for level in chosen:
        start = time.process_time()
        made[level] = level_splits(level)
        counts = ", ".join(f"{len(seeds)} {split}" for split, seeds in made[level].items())
        print(f"{level}: {counts} ({time.process_time() - start:.0f} s)", flush=True)
    lines = [f'"{known}": {json.dumps(made[known])}' for known in LEVELS if known in made]
    atomic_write(path, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
