"""Fed-SE in one flat file (Chen et al., arXiv 2512.08870), with the library's pieces and none of its orchestration.

    python examples/fedse_loop.py                        # SmolLM2-135M on Maze and Wordle, minutes on a laptop
    python examples/fedse_loop.py --model tiny --quick   # a random model: the mechanics in seconds

`fedse run` does the same with messages, run folders that resume, one store per site on disk, and progress bars.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import fedse


@dataclass
class Site:
    """What a site keeps to itself: its environment, its rules, its experience."""

    environment: str
    instruction: str
    experience: dict[str, fedse.Trajectory] = field(default_factory=dict)  # a repeated success counts once

    def make(self) -> fedse.Environment:
        return fedse.make(self.environment)

    def remember(self, episodes: list[fedse.Trajectory]) -> None:
        for episode in episodes:
            self.experience.setdefault(fedse.task_and_actions(episode), episode)


@dataclass(frozen=True)
class Settings:
    rounds: int
    demonstrations: int
    episodes: int
    steps: int
    held_out: int
    seed: int


def open_site(name: str, renderer: fedse.Renderer, settings: Settings) -> Site:
    """D_k,0: a few demonstrations by the environment's own expert."""
    environment = fedse.make(name)
    site = Site(name, fedse.system_prompt(environment, "concise"))
    tasks = environment.tasks("train")[: settings.demonstrations]
    seed = fedse.derive_seed(settings.seed, name, "demonstrate")
    site.remember(
        fedse.demonstrate(environment, tasks, len(tasks), instruction=site.instruction, seed=seed, renderer=renderer)
    )
    return site


def play(
    player: fedse.Player,
    adapter: fedse.AdapterState,
    site: Site,
    tasks: list[fedse.Task],
    seed: int,
    *,
    greedy: bool = False,
) -> list[fedse.Trajectory]:
    requests = [fedse.EpisodeRequest(task, fedse.derive_seed(seed, str(task), n)) for n, task in enumerate(tasks)]
    rules = fedse.Rules(site.make, site.instruction, greedy=greedy)
    return player.play(adapter, [fedse.Play(requests, rules)])[0]


def evolve(
    player: fedse.Player, lora: fedse.LoraModel, site: Site, adapter: fedse.AdapterState, round: int, settings: Settings
) -> fedse.Update:
    """One site's round: explore with the global adapter, keep successes, remember, fine-tune from there, send."""
    seed = fedse.derive_seed(settings.seed, site.environment, round)
    train = list(site.make().tasks("train"))
    tasks = fedse.python_random(seed, "tasks").sample(train, settings.episodes)
    kept = fedse.select(fedse.successes, play(player, adapter, site, tasks, seed)).kept
    site.remember(list(kept))

    lora.load(adapter)
    examples = [fedse.Example.of(episode) for episode in site.experience.values()]
    training = fedse.TrainingConfig(steps=settings.steps, batch_size=4)
    stats = fedse.local_update(lora, examples, training, seed=fedse.derive_seed(seed, "train"))
    print(
        f"round {round}  {site.environment:8} explored {len(tasks)}, kept {len(kept)}, "
        f"experience {len(site.experience)}, loss {stats.last_loss:.3f}"
    )
    return fedse.Update(adapter=lora.state())


def evaluate(player: fedse.Player, adapter: fedse.AdapterState, site: Site, settings: Settings) -> str:
    tasks = list(site.make().tasks("test"))[: settings.held_out]
    result = fedse.success_rate(play(player, adapter, site, tasks, settings.seed, greedy=True))
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

    if arguments.model == "smollm2-135m":
        fedse.pull(arguments.model, progress=print)
    lora = fedse.LoraModel(fedse.load_base(fedse.ModelConfig(name=arguments.model)), fedse.LoraConfig())
    renderer = fedse.renderer_for(lora.base.tokenizer)
    limits = fedse.RolloutConfig(max_turns=2, max_response_tokens=8) if arguments.quick else fedse.RolloutConfig()
    player = fedse.TorchPlayer(lora, renderer, limits)

    sites = {name: open_site(name, renderer, settings) for name in ("maze", "wordle")}
    strategy = fedse.make_strategy("mean", {})
    state = strategy.initial(lora.initial_state(settings.seed), dict.fromkeys(sites, lora.config.rank))
    print("before   ", *(evaluate(player, state.adapter(), site, settings) for site in sites.values()), sep="  ")
    for round in range(1, settings.rounds + 1):
        updates = {
            name: evolve(player, lora, site, strategy.instruct(state, name).adapter, round, settings)
            for name, site in sites.items()
        }
        state = strategy.absorb(state, fedse.Updates.of(updates))
        rates = [evaluate(player, state.adapter(), site, settings) for site in sites.values()]
        print(f"round {round}  ", *rates, sep="  ")


if __name__ == "__main__":
    main()
