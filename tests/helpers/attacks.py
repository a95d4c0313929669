"""What a hostile site does to a federation: attacks on updates, and a trajectory that teaches a backdoor.

An attack is a function of what the site was sent and of its honest update.  :func:`hostile` lets a site of a run in
this process make one, in every round; the site works honestly and lies about the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.stepping import flat, server_step, unflat
from fedse.learning.examples import Example
from fedse.messages import Instruction, Reply, Update
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


def noise(deviation: float, seed: int = 0) -> Attack:
    """The update, and normal noise on every value."""

    def attack(_: AdapterState, honest: AdapterState) -> AdapterState:
        drawn = np.random.default_rng(seed).normal(scale=deviation, size=flat(honest).size)
        return unflat(flat(honest) + drawn, honest)

    return attack


def replacement(target: AdapterState, sites: int) -> Attack:
    """What makes the mean of so many sites the target, if the others do not move (Bagdasaryan et al., 1807.00459)."""
    return lambda base, _: server_step(base, target, sites)


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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "answer", answer)
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SiteEnvironment, "lessons", lessons)
        yield
