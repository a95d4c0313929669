"""Sites that train at random: what they send back fits what any strategy asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedse.adapters.moments import widths
from fedse.adapters.state import AdapterState
from fedse.messages import Instruction, Purpose, Update, Work
from helpers.runtimes import Answers, ScriptedSites, replied


def trained(base: AdapterState, work: Work, begins: AdapterState, *seed: int) -> Update:
    """The part that was to be trained, moved at random; random moments or gradients; one example for each seed."""
    generator = np.random.default_rng(seed)
    tensors = {n: a + 0.1 * generator.normal(size=a.shape).astype(np.float32) for n, a in base.tensors.items()}
    moments = {}
    for layer, width in widths(begins).items():
        size = begins.meta.rank if work.moments == "adapter" else min(work.moments, width)
        inputs = generator.normal(size=(size, 20))
        moments |= {layer: (inputs @ inputs.T / 20).astype(np.float32)} if work.moments else {}
    gradients = {n: generator.normal(size=a.shape).astype(np.float32) for n, a in base.tensors.items()}
    told = gradients if work.control else moments
    return Update(adapter=AdapterState(tensors, base.meta), scalars={"examples": 1.0 + sum(seed)}, tensors=told)


@dataclass
class RandomSites(ScriptedSites):
    """Every site trains at random, by its name and the round, unless it is out.

    Attributes:
        out: (round, site) in which it does not answer.
        backwards: replies come in the opposite order.
    """

    out: frozenset[tuple[int, str]] = frozenset()
    backwards: bool = False

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        answers = list(super().ask(instructions, deadline=deadline))
        yield from reversed(answers) if self.backwards else answers

    def _answer(self, instruction: Instruction) -> bytes | str | None:
        if instruction.purpose is not Purpose.ROUND:
            return super()._answer(instruction)
        self.asked.append(instruction)
        if (instruction.round, instruction.site) in self.out:
            return None
        begins = instruction.start or instruction.adapter
        assert begins is not None
        assert instruction.base is not None
        update = trained(instruction.base, instruction.work, begins, instruction.round, *instruction.site.encode())
        needed = {name: value for name, value in update.scalars.items() if name in instruction.needs}
        return replied(instruction, update.model_copy(update={"scalars": needed}))
