"""Find the worlds that BabyAI's splits are made of, and write them into the package.

    python scripts/babyai_splits.py [LEVEL ...]

A world serves as a task if the expert carries out its mission within the turn limit.  Seeds are taken in ascending
order.  The benchmark splits follow the rule of AgentGym's data: for each of its 18 levels the first 45 make train and
the next 5 test.  `test` and `train` begin with these and go on with seeds from 1000 and from 2000; they take only
worlds that begin otherwise than all that they hold, in either (small rooms have few arrangements).  Without arguments
all levels are made, otherwise those named.
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

BENCHMARK_TRAIN, BENCHMARK_TEST, TEST, TRAIN = 45, 5, 28, 60
#: Seeds in each range.
RANGE = 1000
#: A level is given up if the expert solves none of so many worlds.
PATIENCE = 100


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
    found = False
    for seed in range(start, start + RANGE):
        if seed == start + PATIENCE and not found:
            return
        if solves(level, seed):
            found = True
            yield seed


def unlike(known: set[Hashable], level: str, seeds: Iterable[int]) -> Iterator[int]:
    """The seeds whose worlds begin otherwise than all known ones, to which theirs are added."""
    for seed in seeds:
        if beginning(level, seed) not in known:
            known.add(beginning(level, seed))
            yield seed


def level_splits(level: str) -> dict[str, list[int]]:
    """Split → seeds of a level; empty if the expert solves none of the first worlds."""
    benchmark = list(islice(solved(level, 0), BENCHMARK_TRAIN + BENCHMARK_TEST)) if level in BENCHMARK_LEVELS else []
    train, test = benchmark[:BENCHMARK_TRAIN], benchmark[BENCHMARK_TRAIN:]
    known: set[Hashable] = set()
    found = {"test": list(islice(unlike(known, level, chain(test, solved(level, RANGE))), TEST))}
    if not found["test"]:
        return {}
    found["train"] = list(islice(unlike(known, level, chain(train, solved(level, 2 * RANGE))), TRAIN))
    return found | ({"benchmark-train": train, "benchmark-test": test} if benchmark else {})


def main() -> None:
    """Make the file, or the named levels of it."""
    chosen = sys.argv[1:] or LEVELS
    path = Path(splits.__file__).with_name(splits.DATA)
    made = dict(splits.split_seeds()) if sys.argv[1:] else {}
    for level in chosen:
        start = time.process_time()
        made[level] = level_splits(level)
        counts = ", ".join(f"{len(seeds)} {split}" for split, seeds in made[level].items()) or "no tasks"
        print(f"{level}: {counts} ({time.process_time() - start:.0f} s)", flush=True)
        lines = [f'"{known}": {json.dumps(made[known])}' for known in LEVELS if made.get(known)]
        atomic_write(path, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
