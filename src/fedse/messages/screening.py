"""What a reply must be before anything is computed with it.

Averaging libraries broadcast mismatched shapes in silence, pass NaN on, and divide by a zero sum of weights; every
update is therefore checked here, in full, before a strategy sees it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from fedse.adapters.checks import finite_problems, meta_problems, shape_problems
from fedse.messages.instruction import Instruction, Purpose
from fedse.messages.reply import Diverged, Done, Rates, Refused, Reply, Update

#: What answers an instruction, beside a refusal; a site that keeps back its rates is done without them.
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
        reply: as decoded.
        instruction: that it answers.
        names: of which the site may tell: its own, and those of its environments.
    """
    problems = [
        f"its {field} is {getattr(reply, field)!r}, but {getattr(instruction, field)!r} was asked"
        for field in ("site", "purpose", "round")
        if getattr(reply, field) != getattr(instruction, field)
    ]
    if not isinstance(reply.answer, (Refused, *_ANSWERS[instruction.purpose])):
        problems.append(f"{reply.answer.kind!r} is no answer to {instruction.purpose.value!r}")
    others = sorted({*reply.report.phases, *reply.report.tasks} - set(names))
    problems += [f"it tells of {name!r}, which is not at this site" for name in others]
    if isinstance(reply.answer, Update):
        problems += _update_problems(reply.answer, instruction)
    return problems


def _update_problems(update: Update, instruction: Instruction) -> list[str]:
    sent, found = instruction.adapter, update.adapter
    problems = finite_problems(found)
    if sent is not None:
        problems = meta_problems(found.meta, sent.meta) + shape_problems(found, sent) + problems
    problems += [
        f"tensor {name!r} is not finite" for name, array in update.tensors.items() if not np.isfinite(array).all()
    ]
    return problems + _scalar_problems(update, set(instruction.needs))


def _scalar_problems(update: Update, needs: set[str]) -> list[str]:
    problems = [f"scalar {name!r} is missing" for name in sorted(needs - update.scalars.keys())]
    problems += [f"scalar {name!r} was not asked for" for name in sorted(update.scalars.keys() - needs)]
    return problems + [
        f"scalar {name!r} is {value}, not a finite number ≥ 0"
        for name, value in sorted(update.scalars.items())
        if name in needs and not (math.isfinite(value) and value >= 0)
    ]
