"""Fed-SE in one flat file (Chen et al., arXiv 2512.08870), with the library's pieces and none of its orchestration.

    python examples/fedse_loop.py                        # SmolLM2-135M on Maze and Wordle, minutes on a laptop
    python examples/fedse_loop.py --model tiny --quick   # a random model: the mechanics in seconds

`fedse run` does the same with resumable run folders, one store per site on disk, progress bars and checked updates.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from fedse.federation.aggregation import get_aggregator
from fedse.messages.update import ClientUpdate

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer, renderer_for, system_prompt
from fedse.config import LoraConfig, ModelConfig, RolloutConfig, TrainingConfig
from fedse.environments import make
from fedse.environments.base import Environment
from fedse.evaluation.rates import success_rate
from fedse.experience import get_selection, select, task_and_actions
from fedse.learning.examples import Example
from fedse.learning.update import local_update
from fedse.models import catalogue
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Player, Rules
from fedse.rollout.scripted import demonstrate
from fedse.rollout.torch.player import TorchPlayer
from fedse.seeding import derive_seed, python_random
from fedse.types import Task, Trajectory


@dataclass
class Site:
    """What a site keeps to itself: its environment, its rules, its experience."""

    environment: str
    instruction: str
    experience: dict[str, Trajectory] = field(default_factory=dict)  # by identity, so a repeated success counts once

    def make(self) -> Environment:
        return make(self.environment)


@dataclass(frozen=True)
class Settings:
    rounds: int
    demonstrations: int
    episodes: int
    steps: int
    held_out: int
    seed: int


def open_site(name: str, renderer: Renderer, settings: Settings) -> Site:
    """D_k,0: a few demonstrations by the environment's own expert."""
    environment = make(name)
    site = Site(name, system_prompt(environment, "concise"))
    tasks = environment.tasks("train")[: settings.demonstrations]
    seed = derive_seed(settings.seed, name, "demonstrate")
    shown = demonstrate(environment, tasks, len(tasks), instruction=site.instruction, seed=seed, renderer=renderer)
    site.experience = {task_and_actions(one): one for one in shown}
    return site


def play(
    player: Player, adapter: AdapterState, site: Site, tasks: list[Task], seed: int, *, greedy: bool
) -> list[Trajectory]:
    requests = [EpisodeRequest(task, derive_seed(seed, str(task), index)) for index, task in enumerate(tasks)]
    return player.play(adapter, requests, Rules(site.make, site.instruction, greedy=greedy))


def evolve(
    player: Player, lora: LoraModel, site: Site, adapter: AdapterState, round: int, settings: Settings
) -> ClientUpdate:
    """One site's round: explore with the global adapter, select, accumulate, fine-tune from there, upload."""
    seed = derive_seed(settings.seed, site.environment, round)
    tasks = python_random(seed, "tasks").sample(list(site.make().tasks("train")), settings.episodes)
    kept = select(get_selection("success"), play(player, adapter, site, tasks, seed, greedy=False)).kept
    for one in kept:
        site.experience.setdefault(task_and_actions(one), one)

    lora.load(adapter)
    training = TrainingConfig(steps=settings.steps, batch_size=4)
    examples = [Example.of(one) for one in site.experience.values()]
    stats = local_update(lora, examples, training, seed=derive_seed(seed, "train"))
    print(
        f"round {round}  {site.environment:8} explored {len(tasks)}, kept {len(kept)}, "
        f"experience {len(site.experience)}, loss {stats.last_loss:.3f}"
    )
    return ClientUpdate(client=site.environment, round=round, adapter=lora.state())


def evaluate(player: Player, site: Site, adapter: AdapterState, settings: Settings) -> str:
    tasks = list(site.make().tasks("test"))[: settings.held_out]
    result = success_rate(play(player, adapter, site, tasks, settings.seed, greedy=True))
    return f"{site.environment} {result.rate:.0%} [{result.low:.0%}, {result.high:.0%}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fed-SE in one flat file")
    parser.add_argument("--model", default="smollm2-135m", help="'smollm2-135m', 'tiny', an id or a folder")
    parser.add_argument("--quick", action="store_true", help="a few episodes and steps only")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    full = Settings(rounds=3, demonstrations=64, episodes=32, steps=32, held_out=64, seed=arguments.seed)
    quick = Settings(rounds=2, demonstrations=3, episodes=3, steps=2, held_out=3, seed=arguments.seed)
    settings = quick if arguments.quick else full

    if arguments.model in catalogue.CATALOGUE:
        catalogue.pull(arguments.model, progress=print)
    lora = LoraModel(load_base(ModelConfig(name=arguments.model)), LoraConfig())
    renderer = renderer_for(lora.base.tokenizer)
    limits = RolloutConfig(max_turns=2, max_response_tokens=8) if arguments.quick else RolloutConfig()
    player = TorchPlayer(lora, renderer, limits)
    mean = get_aggregator("mean")

    sites = [open_site(name, renderer, settings) for name in ("maze", "wordle")]
    adapter = lora.initial_state(settings.seed)
    print("before   ", *(evaluate(player, site, adapter, settings) for site in sites), sep="  ")
    for round in range(1, settings.rounds + 1):
        updates = [evolve(player, lora, site, adapter, round, settings) for site in sites]
        adapter = mean.combine(adapter, updates)
        print(f"round {round}  ", *(evaluate(player, site, adapter, settings) for site in sites), sep="  ")


if __name__ == "__main__":
    main()
