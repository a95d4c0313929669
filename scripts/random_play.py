"""What random play reaches on the quickstart's held-out tasks: the floor that its results stand on.

    python scripts/random_play.py [--tasks 40] [--repeats 50]

Maze: one of the four moves, evenly, within the quickstart's turns.  Wordle: a word of the list, evenly, in each try.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fedse.environments import make
from fedse.environments.base import Environment
from fedse.environments.wordle.vocabulary import common_words
from fedse.seeding import python_random
from fedse.settings import load_config

MOVES = ("move up", "move down", "move left", "move right")


def rate(environment: Environment, actions: Sequence[str], turns: int, *, tasks: int, repeats: int) -> float:
    """Share of episodes that random actions win."""
    rng = python_random("random-play", environment.name)
    won = 0
    for task in list(environment.tasks("test"))[:tasks] * repeats:
        environment.reset(task)
        for _ in range(turns):
            result = environment.step(rng.choice(actions))
            if result.done:
                won += result.reward > environment.spec.success_above
                break
    return won / (tasks * repeats)


def main() -> None:
    """Print one line per site."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    config = load_config("quickstart", None, [])
    for client in config.clients:
        environment = make(client.environment, **client.options)
        actions = MOVES if client.environment == "maze" else common_words(client.options["size"]).words
        limit = min(config.rollout.max_turns or environment.spec.max_turns, environment.spec.max_turns)
        won = rate(environment, actions, limit, tasks=options.tasks, repeats=options.repeats)
        print(f"{client.name:<8} {won:.0%} of {options.tasks} tasks, {options.repeats} times each, {limit} turns")


if __name__ == "__main__":
    main()
