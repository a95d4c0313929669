"""Filters: which episodes become experience, and why the others do not.

Fed-SE keeps an episode exactly when the environment calls it a success (arXiv 2512.08870, R(τ) = 1); its ablation keeps
all.  No filter ever keeps an episode that was lost to an infrastructure fault: it has no outcome to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fedse.names import unknown_name
from fedse.types import StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class Verdict:
    """A filter's judgement of one episode.

    Attributes:
        keep: the episode becomes experience.
        reason: how the episode ended, for counts: ``success``; ``failure`` (the environment said so), ``turn_limit``,
            ``repetition`` or ``context_limit`` (cut off before a success); ``error`` (an infrastructure fault).
    """

    keep: bool
    reason: str


class Filter(Protocol):
    """Decides whether an episode becomes experience."""

    def judge(self, trajectory: Trajectory) -> Verdict:
        """The verdict on one finished episode; a pure function of it."""
        ...


class SuccessFilter:
    """Keeps successes and nothing else.

    A success in which a response hit its token limit is kept: the environment accepted what the agent did.
    """

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Keep iff the environment says success."""
        return Verdict(trajectory.success is True, _reason(trajectory))


class NoFilter:
    """Keeps every episode that has an outcome: the paper's ablation without a success filter."""

    def judge(self, trajectory: Trajectory) -> Verdict:
        """Keep unless an infrastructure fault took the outcome."""
        return Verdict(trajectory.success is not None, _reason(trajectory))


_FILTERS: Mapping[str, type[Filter]] = {"success": SuccessFilter, "none": NoFilter}


def make_filter(name: str) -> Filter:
    """The filter of a name: ``success`` or ``none``.

    Raises:
        UnknownNameError: for another name; offers the nearest.
    """
    if name not in _FILTERS:
        raise unknown_name("filter", name, _FILTERS)
    return _FILTERS[name]()


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What a filter did with a number of episodes.

    Attributes:
        kept: the episodes to learn from, in their order.
        kept_reasons: reason → how many of the kept.
        dropped_reasons: reason → how many of the others.
    """

    kept: tuple[Trajectory, ...]
    kept_reasons: Mapping[str, int]
    dropped_reasons: Mapping[str, int]


def apply_filter(chosen: Filter, trajectories: Iterable[Trajectory]) -> FilterReport:
    """Judge every episode and count the reasons."""
    kept: list[Trajectory] = []
    reasons: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for trajectory in trajectories:
        verdict = chosen.judge(trajectory)
        reasons[verdict.keep][verdict.reason] += 1
        if verdict.keep:
            kept.append(trajectory)
    return FilterReport(tuple(kept), dict(reasons[True]), dict(reasons[False]))


def _reason(trajectory: Trajectory) -> str:
    if trajectory.success:
        return "success"
    return "failure" if trajectory.stop is StopReason.DONE else trajectory.stop.value
