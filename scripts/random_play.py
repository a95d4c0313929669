"""What players without a clue reach on the held-out tasks of a preset or a run: the floor that its results stand on.

    python scripts/random_play.py [--preset quickstart | --run FOLDER] [--repeats 50]

They do at random what an environment lets them do, whatever the goal is; nano/players.py says what that is in each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nano.players import PLAYERS

from fedse.agent import system_prompt
from fedse.config import ClientConfig, RunConfig
from fedse.environments import make
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.scripted import play
from fedse.runs.folder import read_config
from fedse.runs.layout import RunFolder
from fedse.seeding import python_random
from fedse.settings import load_config
from fedse.types import Source


def rate(config: RunConfig, client: ClientConfig, repeats: int) -> tuple[float, int, int]:
    """Share of episodes that a site's player wins; how many tasks it played, and turns it had."""
    environment = make(client.environment, **client.options)
    rng = python_random("random-play", environment.name)
    instruction = system_prompt(environment, config.agent.prompt)
    tasks = list(environment.tasks(client.test_split))[: config.evaluation.tasks]
    turns = min(config.turns_at(client) or environment.spec.max_turns, environment.spec.max_turns)
    won = sum(
        play(
            environment,
            EpisodeRequest(task, number),
            lambda _: PLAYERS[client.environment](instruction, rng),
            instruction=instruction,
            source=Source.POLICY,
            turns=turns,
        ).success
        is True
        for number, task in enumerate(tasks * repeats)
    )
    return won / (len(tasks) * repeats), len(tasks), turns


def main() -> None:
    """Print one line per site."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--preset", default="quickstart")
    subject.add_argument("--run", type=Path, help="a run folder, packed ones included")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    config = read_config(RunFolder(options.run).server) if options.run else load_config(options.preset, None, [])
    for client in config.clients:
        won, tasks, turns = rate(config, client, options.repeats)
        print(f"{client.name:<9} {won:.0%} of {tasks} tasks, {options.repeats} times each, {turns} turns", flush=True)


if __name__ == "__main__":
    main()
