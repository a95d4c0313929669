"""What a reply must be before anything is computed with it.

Averaging libraries broadcast mismatched shapes in silence, pass NaN on, and divide by a zero sum of weights; every
update is therefore checked here, in full, before a strategy sees it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from fedse.adapters.checks import finite_problems, meta_problems, shape_problems
from fedse.adapters.moments import widths
from fedse.adapters.state import AdapterState
from fedse.messages.instruction import Instruction, Purpose
from fedse.messages.reply import ECHOED, Diverged, Done, Rates, Refused, Reply, Update

#: What may be answered; any site may refuse anything, and keep its rates to itself.
_ANSWERS = {
    Purpose.JOIN: (Done,),
    Purpose.INITIAL: (Update,),
    Purpose.CHECK: (Done,),
    Purpose.DEMONSTRATE: (Done,),
    Purpose.ROUND: (Update, Diverged),
    Purpose.EVALUATE: (Rates, Done),
}


def reply_problems(reply: Reply, instruction: Instruction, names: Collection[str]) -> list[str]:
    """What is wrong with a reply as an answer to an instruction, in words; empty if it may be used.

    Args:
        reply: that came.
        instruction: that it answers.
        names: of the site and its environments, the only ones that it may tell of.
    """
    problems = [
        f"it is from {field} {getattr(reply, field)}, but {getattr(instruction, field)} was asked"
        for field in ECHOED
        if getattr(reply, field) != getattr(instruction, field)
    ]
    if not isinstance(reply.answer, (*_ANSWERS[instruction.purpose], Refused)):
        problems.append(f"{reply.answer.kind!r} is no answer to {instruction.purpose.value!r}")
    problems += [
        f"it tells of {name!r}, which is not at this site"
        for name in sorted((reply.report.phases.keys() | reply.report.tasks.keys()) - set(names))
    ]
    if isinstance(reply.answer, Update) and instruction.base is not None:
        problems += _update_problems(reply.answer, instruction)
    return problems


def _update_problems(update: Update, instruction: Instruction) -> list[str]:
    sent, found = instruction.base, update.adapter
    assert sent is not None
    problems = meta_problems(found.meta, sent.meta) + shape_problems(found, sent) + finite_problems(found)
    problems += [
        f"tensor {name!r} is not finite" for name, array in update.tensors.items() if not np.isfinite(array).all()
    ]
    further = _control_problems(update, sent) if instruction.work.control else _moment_problems(update, instruction)
    return problems + further + _scalar_problems(update, set(instruction.needs))


def _control_problems(update: Update, sent: AdapterState) -> list[str]:
    """A site that had nothing to learn from has no gradient to tell of."""
    wanted = {name: array.shape for name, array in sent.tensors.items()}
    if update.tensors and {name: array.shape for name, array in update.tensors.items()} != wanted:
        return ["its mean gradient is not that of the adapter"]
    return []


def _moment_problems(update: Update, instruction: Instruction) -> list[str]:
    asked, begins = instruction.work.moments, instruction.start or instruction.adapter
    if not asked:
        return ["it has tensors that were not asked for"] if update.tensors else []
    assert begins is not None  # else there is nothing to train
    sizes = {
        layer: begins.meta.rank if asked == "adapter" else min(asked, width) for layer, width in widths(begins).items()
    }
    problems = [f"moments of {layer} are missing" for layer in sorted(sizes.keys() - update.tensors.keys())]
    problems += [f"moments of {layer} were not asked for" for layer in sorted(update.tensors.keys() - sizes.keys())]
    return problems + [
        f"moments of {layer} have shape {update.tensors[layer].shape} instead of {(size, size)}"
        for layer, size in sizes.items()
        if layer in update.tensors and update.tensors[layer].shape != (size, size)
    ]


def _scalar_problems(update: Update, needs: set[str]) -> list[str]:
    problems = [f"scalar {name!r} is missing" for name in sorted(needs - update.scalars.keys())]
    problems += [f"scalar {name!r} was not asked for" for name in sorted(update.scalars.keys() - needs)]
    return problems + [
        f"scalar {name!r} is {value}, not a finite number ≥ 0"
        for name, value in sorted(update.scalars.items())
        if name in needs and not (math.isfinite(value) and value >= 0)
    ]
