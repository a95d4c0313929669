"""Credit: how much better an attempt did than what was to be expected at its task.

The baseline of a task is the mean outcome of the attempts at it, with the mean over all tasks counted as one more
attempt: one attempt alone says little of its task.  Group baselines are GRPO's (arXiv 2402.03300), without its division
by the standard deviation, which gives tasks that are nearly always won or lost undue weight (arXiv 2503.20783).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedse.types import Task, Trajectory


@dataclass(slots=True)
class Outcomes:
    """Attempts at a task, and those of them that were won."""

    attempts: int = 0
    wins: int = 0


def outcomes_by_task(trajectories: Iterable[Trajectory]) -> dict[Task, Outcomes]:
    """What came of the attempts at each task; those lost to faults do not count."""
    found: dict[Task, Outcomes] = defaultdict(Outcomes)
    for trajectory in trajectories:
        if trajectory.success is not None:
            found[trajectory.task].attempts += 1
            found[trajectory.task].wins += trajectory.success
    return dict(found)


def baselines(outcomes: Mapping[Task, Outcomes]) -> dict[Task, float]:
    """Expected success at each task, in [0, 1]."""
    attempts = sum(found.attempts for found in outcomes.values())
    mean = sum(found.wins for found in outcomes.values()) / attempts if attempts else 0.0
    return {task: (found.wins + mean) / (found.attempts + 1) for task, found in outcomes.items()}


def advantages(trajectories: Sequence[Trajectory]) -> list[float]:
    """Success less the baseline of the task, in [−1, 1]; 0 for episodes that were lost to faults."""
    expected = baselines(outcomes_by_task(trajectories))
    return [0.0 if one.success is None else one.success - expected[one.task] for one in trajectories]
