"""What a reply must be before anything is computed with it.

Averaging libraries broadcast mismatched shapes in silence, pass NaN on, and divide by a zero sum of weights; every
update is therefore checked here, in full, before a strategy sees it.
"""

from __future__ import annotations

import math

import numpy as np

from fedse.adapters.checks import finite_problems, meta_problems, shape_problems
from fedse.messages.instruction import Instruction
from fedse.messages.reply import Reply, Update


def reply_problems(reply: Reply, instruction: Instruction) -> list[str]:
    """What is wrong with a reply as an answer to an instruction, in words; empty if it may be used."""
    problems = [
        f"it is from {field} {getattr(reply, field)!r}, but {getattr(instruction, field)!r} was asked"
        for field in ("site", "purpose", "round")
        if getattr(reply, field) != getattr(instruction, field)
    ]
    if isinstance(reply.answer, Update) and instruction.adapter is not None:
        problems += _update_problems(reply.answer, instruction)
    return problems


def _update_problems(update: Update, instruction: Instruction) -> list[str]:
    sent, found = instruction.adapter, update.adapter
    assert sent is not None
    problems = meta_problems(found.meta, sent.meta) + shape_problems(found, sent) + finite_problems(found)
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
