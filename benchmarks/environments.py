"""Steps per second (resets included) and resets per second of every environment, in process, on one core.

    python benchmarks/environments.py [--seconds 2]

The figures of the originals were measured earlier, on another occasion and not in this run; they are shown for scale,
and a ratio to them holds only roughly.
"""

from __future__ import annotations

import argparse
import statistics
import time

from fedse.environments import Environment, environment_names, make
from fedse.seeding import python_random

#: Steps per second of the original servers' environment code, in process; TextCraft's without resets, the others' with.
ORIGINALS = {"babyai": 529, "maze": 163_950, "textcraft": 139_000, "webshop": 50, "wordle": 2_051}
#: Resets per second of the same, where they were measured.
ORIGINAL_RESETS = {"babyai": 58, "textcraft": 1_330}
REPEATS = 5


def scripts(environment: Environment, episodes: int) -> list[list[str]]:
    """Actions for every test task, drawn from the expert's on other tasks: valid, but they do not win at once."""
    tasks = environment.tasks("test")[:episodes]
    actions = []
    for task in tasks:
        observation, expert, done = environment.reset(task), environment.expert(0), False
        while not done:
            action = expert.act(observation)[1]
            actions.append(action)
            result = environment.step(action)
            observation, done = result.observation, result.done
    rng = python_random("benchmark", environment.name)
    return [[rng.choice(actions) for _ in range(environment.spec.max_turns)] for _ in tasks]


def measure(environment: Environment, seconds: float) -> float:
    """Steps per second of CPU time; the script itself is prepared outside the measurement."""
    plan = list(zip(environment.tasks("test"), scripts(environment, 64), strict=False))
    steps, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for task, actions in plan:
            environment.reset(task)
            for action in actions:
                steps += 1
                if environment.step(action).done:
                    break
    return steps / spent


def measure_resets(environment: Environment, seconds: float) -> float:
    """Resets per second of CPU time, over the test tasks in turn; what a task needs once is prepared before."""
    tasks = environment.tasks("test")[:64]
    for task in tasks:
        environment.reset(task)
    resets, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for task in tasks:
            environment.reset(task)
        resets += len(tasks)
    return resets / spent


def shown(name: str, originals: dict[str, int]) -> str:
    return f"{originals[name]:,}" if name in originals else "not known"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="per environment, split over five repeats")
    seconds = parser.parse_args().seconds
    print(
        f"{'environment':<12}{'steps/s':>12}{'lowest':>12}{'highest':>12}{'original*':>12}{'resets/s':>12}{'original*':>12}"
    )
    for name in environment_names():
        speeds = [measure(make(name), seconds / REPEATS) for _ in range(REPEATS)]
        resets = statistics.median(measure_resets(make(name), seconds / REPEATS / 2) for _ in range(REPEATS))
        print(
            f"{name:<12}{statistics.median(speeds):>12,.0f}{min(speeds):>12,.0f}{max(speeds):>12,.0f}"
            f"{shown(name, ORIGINALS):>12}{resets:>12,.0f}{shown(name, ORIGINAL_RESETS):>12}"
        )
    print(f"median of {REPEATS} repeats, CPU time of one core")
    print("* the original environment code, measured elsewhere and not in this run; for scale only")


if __name__ == "__main__":
    main()
