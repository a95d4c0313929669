"""Selections: which episodes become experience, how much each weighs, and why the others are dropped.

Fed-SE keeps an episode exactly when the environment calls it a success (arXiv 2512.08870, R(τ) = 1); its ablation keeps
all.  No selection ever keeps an episode that was lost to an infrastructure fault: it has no outcome to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fedse.names import unknown_name
from fedse.types import StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a selection says of one episode.

    Attributes:
        keep: the episode becomes experience.
        reason: how the episode ended, for counts: ``success``; ``failure`` (the environment said so), ``turn_limit``,
            ``repetition`` or ``context_limit`` (cut off before a success); ``error`` (an infrastructure fault).
        weight: factor on the losses of its tokens where it is learnt from.
    """

    keep: bool
    reason: str
    weight: float = 1.0


#: Judges one finished episode.  It must be a pure function: the weight is asked for again in every update.
Selection = Callable[[Trajectory], Verdict]


def successes(trajectory: Trajectory) -> Verdict:
    """Keeps successes and nothing else.

    A success in which a response hit its token limit is kept: the environment accepted what the agent did.
    """
    return Verdict(trajectory.success is True, _reason(trajectory))


def outcomes(trajectory: Trajectory) -> Verdict:
    """Keeps every episode that has an outcome: the paper's ablation without a success filter."""
    return Verdict(trajectory.success is not None, _reason(trajectory))


_SELECTIONS: Mapping[str, Selection] = {"success": successes, "none": outcomes}


def get_selection(name: str) -> Selection:
    """The selection that ``method.filter`` names: ``success`` or ``none``.

    Raises:
        UnknownNameError: for another name; offers the nearest.
    """
    if name not in _SELECTIONS:
        raise unknown_name("filter", name, _SELECTIONS)
    return _SELECTIONS[name]


@dataclass(frozen=True, slots=True)
class Selected:
    """The episodes to learn from, in their order, and for every reason how many were kept or dropped for it."""

    kept: tuple[Trajectory, ...]
    kept_reasons: Mapping[str, int]
    dropped_reasons: Mapping[str, int]


def select(selection: Selection, trajectories: Iterable[Trajectory]) -> Selected:
    """Judge every episode and count the reasons."""
    judged = [(trajectory, selection(trajectory)) for trajectory in trajectories]
    kept, dropped = (Counter(verdict.reason for _, verdict in judged if verdict.keep is keep) for keep in (True, False))
    return Selected(tuple(trajectory for trajectory, verdict in judged if verdict.keep), dict(kept), dict(dropped))


def _reason(trajectory: Trajectory) -> str:
    if trajectory.success:
        return "success"
    return "failure" if trajectory.stop is StopReason.DONE else trajectory.stop.value
