"""Learning-rate schedules.  Each local update starts its schedule anew, as in the paper (cosine, no warm-up).

Adam's moments start anew as well, so the first steps of an update are as long as the learning rate in every
coordinate, however small its gradient.  While the agent still learns much this hardly matters; toward the end of a run
it undoes what was learnt, unless a warm-up shortens these steps and the peak falls from round to round.
"""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(step: int, steps: int, schedule: Literal["cosine", "constant"], warmup: float) -> float:
    """Factor on the peak learning rate in optimizer step ``step`` (from 0) of ``steps``.

    The first ⌈warmup · steps⌉ steps rise linearly and the last of them reaches 1.  After them the factor stays 1, or
    falls along half a cosine that would reach 0 one step after the last.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising)))


def round_factor(round: int, rounds: int, schedule: Literal["cosine", "constant"]) -> float:
    """Factor on the peak learning rate of a round (from 1) of ``rounds``; half a cosine begins at 1 in round 1."""
    return 1.0 if schedule == "constant" else learning_rate_factor(round - 1, rounds, schedule, warmup=0.0)
