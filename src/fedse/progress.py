"""Progress events: what long work tells whoever watches.  Listeners only watch; they never change a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a round, in order."""

    DEMONSTRATE = "demonstrate"
    EXPLORE = "explore"
    TRAIN = "train"
    AGGREGATE = "aggregate"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Event:
    """One step of progress inside a phase.

    Attributes:
        phase: what is going on.
        round: federation round, 0 before the first.
        client: the site at work; empty for the server.
        done, total: episodes (rollouts) or optimizer steps (training) finished and planned.
        successes: successful episodes so far, in rollouts.
        errors: episodes lost to faults so far, which are no failures.
        tokens: tokens generated or trained so far in this phase.
        seconds: time since the phase began.
        loss: last training loss; NaN outside training.
        finished: the phase is over.
        trouble: what holds the work up, in words, as an endpoint that does not answer; empty if nothing does.
        note: what to show beside the figures, as whose adapter plays, or that training diverged.
    """

    phase: Phase
    round: int
    client: str
    done: int
    total: int
    successes: int = 0
    errors: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    finished: bool = False
    note: str = ""
    trouble: str = ""


Listener = Callable[[Event], None]


def silent(_: Event) -> None:
    """The listener that does nothing."""
