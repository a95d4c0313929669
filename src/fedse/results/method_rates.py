"""The success of one method over its training seeds, with intervals that know which episodes are of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedse.errors import RunError
from fedse.evaluation.bootstrap import Estimate, paired_bootstrap
from fedse.evaluation.rates import pooled, wilson_interval
from fedse.results.held_out import HeldOut, pair_runs
from fedse.types import SuccessRate


@dataclass(frozen=True)
class MethodRates:
    """What one method reaches; rates in [0, 1], intervals of 95 %.

    Attributes:
        environments: environment → success rate over the episodes of all seeds.
        macro: mean of the environments, the primary endpoint; ``None`` without episodes to resample.
        task_weighted: mean over all tasks, as in the Fed-SE paper's tables; ``None`` where ``macro`` is.
        dropped: environment → tasks that the means leave out because an episode was lost to a fault.
        obstacle: why there are no means although there are episodes; empty otherwise.
    """

    environments: Mapping[str, SuccessRate]
    macro: Estimate | None = None
    task_weighted: Estimate | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    obstacle: str = ""


def method_rates(rates: Mapping[str, Sequence[SuccessRate]], held_out: Sequence[HeldOut]) -> MethodRates:
    """Put the runs of one method together.

    The interval of an environment is Wilson's where its episodes are of as many tasks.  Where one task was played
    several times, under several seeds or in several samples, it is the bootstrap's over tasks and seeds
    (:func:`~fedse.evaluation.bootstrap.paired_bootstrap`).  That has no width where all tasks came out the same, and
    misses the rate of all episodes where faults took many of the tasks, which it leaves out: there the interval is
    Wilson's for the number of tasks.  Where the episodes are not at hand, as when sites keep them to themselves, it is
    that of :func:`~fedse.evaluation.rates.pooled`.

    Args:
        rates: environment → success rate of each run.
        held_out: the episodes of these runs, or empty.
    """
    whole = {name: pooled(of_runs) for name, of_runs in rates.items()}
    if not held_out:
        return MethodRates(whole)
    try:
        runs = pair_runs(held_out, held_out)
    except RunError as error:
        return MethodRates(whole, obstacle=error.what)
    resampled = paired_bootstrap(runs.a, runs.b)
    environments = {
        name: _with_interval(whole[name], outcomes.shape, resampled.environments[name].a)
        for name, outcomes in runs.a.items()
    }
    return MethodRates(whole | environments, resampled.macro.a, resampled.task_weighted.a, runs.dropped)


def _with_interval(rate: SuccessRate, shape: tuple[int, ...], resampled: Estimate) -> SuccessRate:
    """A rate with the interval that fits (seeds, tasks, samples)."""
    seeds, tasks, samples = shape
    if seeds * samples == 1:
        return rate
    low, high = resampled.low, resampled.high
    if low == high or not low <= rate.rate <= high:
        low, high = wilson_interval(round(rate.rate * tasks), tasks)
    return replace(rate, low=low, high=high)
