"""Success rates with intervals, and their averages over environments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fedse.types import StopReason, SuccessRate, Trajectory


def success_rate(trajectories: Iterable[Trajectory]) -> SuccessRate:
    """Count successes; episodes lost to infrastructure faults are counted apart and enter no rate.

    The interval is Wilson's 95 % score interval (Wilson 1927, JASA 22:209).  It assumes independent episodes: with
    several samples of each task it is too narrow as a statement about new tasks, because samples of one task agree more
    than samples of different tasks.  Without any outcome the rate is NaN and the interval [0, 1].
    """
    successes = episodes = errors = 0
    for trajectory in trajectories:
        if trajectory.stop is StopReason.ERROR:
            errors += 1
        else:
            episodes += 1
            successes += bool(trajectory.success)
    return rate_of(successes, episodes, errors)


def rate_of(successes: int, episodes: int, errors: int = 0) -> SuccessRate:
    """A success rate with Wilson's interval, from counts; see :func:`success_rate`."""
    low, high = wilson_interval(successes, episodes)
    return SuccessRate(successes=successes, episodes=episodes, errors=errors, low=low, high=high)


def pooled(rates: Iterable[SuccessRate]) -> SuccessRate:
    """All episodes of several rates as one rate, as those of several training seeds.

    The interval reaches from the lowest bound of the rates' own intervals to the highest.  Wilson's over all episodes
    would take those of one task under several seeds for independent, and be too narrow.
    """
    given = list(rates)
    known = [rate for rate in given if rate.episodes]
    return SuccessRate(
        successes=sum(rate.successes for rate in known),
        episodes=sum(rate.episodes for rate in known),
        errors=sum(rate.errors for rate in given),
        low=min((rate.low for rate in known), default=0.0),
        high=max((rate.high for rate in known), default=1.0),
    )


def macro_average(rates: Mapping[str, SuccessRate]) -> float:
    """Mean of the environments' rates in [0, 1]: every environment counts the same.  NaN if one has no outcome."""
    return math.fsum(rate.rate for rate in rates.values()) / len(rates) if rates else float("nan")


def task_weighted_average(rates: Mapping[str, SuccessRate]) -> float:
    """Successes out of all episodes in [0, 1], as in the Fed-SE paper's tables: large test sets count more.

    NaN if there are no outcomes at all.
    """
    episodes = sum(rate.episodes for rate in rates.values())
    return sum(rate.successes for rate in rates.values()) / episodes if episodes else float("nan")


#: The two means over environments, by what tables call them.
MEANS = (("mean of environments", macro_average), ("mean of tasks", task_weighted_average))


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Wilson's 95 % score interval (low, high) for a rate; [0, 1] without episodes."""
    if episodes == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # about a second to import

    interval = binomtest(successes, episodes).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
