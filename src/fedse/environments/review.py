"""What an environment can tell of the turns of an episode from what was shown and said: whether an action did anything,
and whether a thought agrees with what the agent had seen.

A won episode has its slips: actions that did nothing, ways that led back, thoughts that are untrue.  Where they can be
told they need not be learnt.  Only what was shown counts, nothing that the agent could not have known, and what cannot
be told is taken for good.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seen:
    """A turn as the environment's own reader has it: what was shown, what was thought and done, what came of it."""

    observation: str
    thought: str
    action: str
    answer: str


@dataclass(frozen=True, slots=True)
class Review:
    """Of a turn.

    Attributes:
        effective: the action did something that was not undone later.
        truthful: no claim in the thought contradicts what was shown.
    """

    effective: bool = True
    truthful: bool = True


def undone(states: Sequence[Hashable | None]) -> list[bool]:
    """Of each turn, whether it lies on a way that led back to where it began.

    Args:
        states: before the first turn and after each; ``None`` where it is not known, which equals no other.
    """
    lost = [False] * (len(states) - 1)
    last = {state: index for index, state in enumerate(states) if state is not None}
    index = 0
    while index < len(lost):
        state = states[index]
        back = index if state is None else last[state]
        lost[index:back] = [True] * (back - index)
        index = max(back, index + 1)
    return lost
