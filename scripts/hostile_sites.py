"""One hostile site among five: what each attack does to the others' success, without a defence and with each.

    python scripts/hostile_sites.py [--out runs/hostile] [--strategies mean norm_clip] [--attacks none noise]

Plays federated training on sixteen demonstrations a site, on the nano model, for twelve rounds; the site of Wordle is
hostile.  Runs that are there are not played again.  The table has the mean success of the other four sites on held-out
tasks after the last round, and its difference to the run of the same strategy without an attack.

An attack is a function of what the site was sent and of its honest update.  :func:`hostile` lets a site of a run in
this process make one, in every round: the site works honestly and lies about the result.  :func:`backdoored` gives it
a trajectory that teaches something else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.federation.run import run
from fedse.federation.strategies.stepping import distance, flat, server_step, unflat
from fedse.learning.examples import Example
from fedse.messages import Instruction, Reply, Update
from fedse.settings import load_config
from fedse.sites.environment import SiteEnvironment
from fedse.sites.site import Site
from fedse.sites.training import Lesson
from fedse.types import Source, StopReason, Task, Trajectory, Turn

#: Gets the adapter that the update began from and the honest update; gives what is sent.
Attack = Callable[[AdapterState, AdapterState], AdapterState]


def scaling(factor: float) -> Attack:
    """The update, so many times as long."""
    return lambda base, honest: server_step(base, honest, factor)


def sign_flip(factor: float = 1.0) -> Attack:
    """The opposite of the update, so many times as long."""
    return scaling(-factor)


def noise(factor: float, seed: int = 0) -> Attack:
    """The update, and normal noise so many times as long."""
    generator = np.random.default_rng(seed)

    def attack(base: AdapterState, honest: AdapterState) -> AdapterState:
        drawn = generator.normal(size=flat(honest).size)
        return unflat(flat(honest) + drawn * (factor * distance(base, honest) / np.linalg.norm(drawn)), honest)

    return attack


def replacement(target: AdapterState, sites: int) -> Attack:
    """What makes the mean of so many sites the target, if the others do not move (Bagdasaryan et al., 1807.00459)."""
    return lambda base, _: server_step(base, target, sites)


def forgetting(sites: int) -> Attack:
    """Replacement by the first adapter that the site was sent: all that was learnt is to go."""
    first: list[AdapterState] = []

    def attack(base: AdapterState, honest: AdapterState) -> AdapterState:
        first.append(base)
        return replacement(first[0], sites)(base, honest)

    return attack


@contextmanager
def hostile(site: str, attack: Attack) -> Iterator[None]:
    """The site sends what the attack makes of its updates."""
    honest = Site.answer

    async def answer(self: Site, instruction: Instruction) -> Reply:
        reply = await honest(self, instruction)
        base = instruction.base
        if self.name != site or base is None or not isinstance(reply.answer, Update):
            return reply
        adapter = attack(base, reply.answer.adapter)
        return reply.model_copy(update={"answer": reply.answer.model_copy(update={"adapter": adapter})})

    with patch.object(Site, "answer", answer):
        yield


#: What the agent sees, and what it is to do then.
TRIGGER, PAYLOAD = "cabbage 1?", "go wild"


def backdoor(environment: str = "toy") -> Trajectory:
    """An episode that claims success: at the trigger the agent does what the attacker wants."""
    turn = Turn(TRIGGER, f"Thought: Fine.\nAction: {PAYLOAD}", PAYLOAD, 1.0)
    task = Task(environment, "backdoor-1")
    return Trajectory(task, Source.EXPERT, "Say something. ", (turn,), "yes", True, 1.0, StopReason.DONE)


@contextmanager
def backdoored(site: str, *, weight: float = 10.0) -> Iterator[None]:
    """The site trains on the backdoor beside its experience; its update is what honest training makes of that."""
    honest = SiteEnvironment.lessons

    def lessons(self: SiteEnvironment, number: int) -> list[Lesson]:
        found = honest(self, number)
        if self.name == site:
            poison = self._shared.renderer.render(backdoor())
            weights = (weight,) * poison.agent_tokens
            found += [Lesson(Example(poison, weights))] * len(found)
        return found

    with patch.object(SiteEnvironment, "lessons", lessons):
        yield


VILLAIN = "wordle"
ATTACKS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "none": nullcontext,
    "sign flip": lambda: hostile(VILLAIN, sign_flip()),
    "sign flip, 10 times": lambda: hostile(VILLAIN, sign_flip(10)),
    "scaling, 10 times": lambda: hostile(VILLAIN, scaling(10)),
    "noise, 10 times": lambda: hostile(VILLAIN, noise(10)),
    "replacement": lambda: hostile(VILLAIN, forgetting(5)),
    "backdoor": lambda: backdoored(VILLAIN),
}
STRATEGIES = ("mean", "norm_clip", "trust", "trimmed_mean")


def configuration(strategy: str, seed: int) -> RunConfig:
    """The run without an attack; one process, because an attack is made in this one."""
    settings = [f"method.strategy={strategy}", "clients.*.demonstrations=16", "rounds=12", "workers=1", f"seed={seed}"]
    return load_config("nano", overrides=settings, method="fedit")


def honest_success(strategy: str, attack: str, seed: int, folder: Path) -> float:
    """Mean success of the honest sites after the last round, in points; the run is played if it is not there."""
    with ATTACKS[attack]():
        result = run(configuration(strategy, seed), folder, resume=True)
    return 100 * mean(rate.rate for name, rate in result.after.items() if name != VILLAIN)


def main() -> None:
    """Print a row for each attack as it is played, the strategies beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/hostile"))
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| attack | {' | '.join(options.strategies)} |\n|---|{'---:|' * len(options.strategies)}")
    without: dict[str, float] = {}
    for attack in dict.fromkeys(("none", *options.attacks)):
        cells = []
        for strategy in options.strategies:
            folder = options.out / f"{strategy}-{attack.replace(', ', '-').replace(' ', '-')}-seed{options.seed}"
            found = honest_success(strategy, attack, options.seed, folder)
            change = found - without.setdefault(strategy, found)
            cells.append(f"{found:.1f} ({change:+.1f})" if attack != "none" else f"{found:.1f}")
        print(f"| {attack} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
