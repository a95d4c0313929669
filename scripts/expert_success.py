"""How many held-out tasks the experts solve, as a table in Markdown.

python scripts/expert_success.py                 # all installed environments, split test
python scripts/expert_success.py maze wordle --split paper-test --seed 1
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from fedse.cli.options import parsed_options
from fedse.environments import environment_class, environment_names, make
from fedse.evaluation.rates import success_rate
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.scripted import ExpertPolicy, play
from fedse.seeding import derive_seed
from fedse.types import Source, StopReason, Trajectory


def episodes(name: str, options: dict[str, Any], split: str, seed: int) -> list[Trajectory]:
    """One expert episode of every task of a split."""
    environment = make(name, **options)
    requests = [EpisodeRequest(task, derive_seed(seed, str(task))) for task in environment.tasks(split)]
    found = [
        play(
            environment,
            request,
            lambda opened, request=request: ExpertPolicy(opened, request.seed),  # type: ignore[misc]
            instruction="",
            source=Source.EXPERT,
        )
        for request in requests
    ]
    environment.close()
    return found


def row(name: str, options: dict[str, Any], split: str, seed: int) -> str:
    """One line of the table."""
    began = time.process_time()
    played = episodes(name, options, split, seed)
    rate = success_rate(played)
    turns = sum(len(trajectory.turns) for trajectory in played) / len(played)
    faults = sum(trajectory.stop is StopReason.ERROR for trajectory in played)
    percent = f"{100 * rate.rate:.1f} % [{100 * rate.low:.1f}–{100 * rate.high:.1f}]"
    seconds = time.process_time() - began
    return f"| `{name}` | {len(played)} | {rate.successes} | {percent} | {turns:.1f} | {faults} | {seconds:.1f} |"


def main() -> None:
    """Print the table, a line when each environment is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="*", help="names; all installed ones with an expert by default")
    parser.add_argument("--split", default="test")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="of the environment; repeat")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    options = parsed_options(wanted.option)
    known = [name for name in environment_names() if environment_class(name).has_expert]
    print(f"| environment | tasks of `{wanted.split}` | solved | rate [95 %] | turns | faults | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name in wanted.environments or known:
        print(row(name, options, wanted.split, wanted.seed), flush=True)


if __name__ == "__main__":
    main()
