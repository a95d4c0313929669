"""The comparison of two methods on the same held-out tasks and training seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedse.evaluation.bootstrap import RESAMPLES, Contrast, Outcomes, paired_bootstrap
from fedse.evaluation.significance import holm, sign_flip_test


@dataclass(frozen=True, slots=True)
class EnvironmentComparison:
    """Two methods in one environment.

    Attributes:
        rates: success rates in [0, 1] with their difference.
        tasks: how many both have played.
        better, worse: tasks that method A solves more often, or less often, than B over all seeds and samples.
        discordance: share of episodes that only one of the methods solves.
        p: of the exact test over tasks, given these adapters (McNemar's, with one episode per task).
        p_holm: adjusted for the number of environments.
    """

    rates: Contrast
    tasks: int
    better: int
    worse: int
    discordance: float
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods over all environments.

    Attributes:
        environments: environment → comparison there.
        macro: mean of the environments' rates; its difference is the primary endpoint.
        task_weighted: mean over all tasks, in which environments with many tasks count more.
        iqm: interquartile mean over seeds and environments.
        seeds: number of training seeds.
    """

    environments: Mapping[str, EnvironmentComparison]
    macro: Contrast
    task_weighted: Contrast
    iqm: Contrast
    seeds: int


def compare(a: Outcomes, b: Outcomes, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two methods by paired bootstrap, and by exact tests per environment with Holm's correction.

    Args:
        a: successes of the first method, as for :func:`~fedse.evaluation.bootstrap.paired_bootstrap`.
        b: those of the second.
        resamples: bootstrap samples.
        seed: of the bootstrap's draws.

    Raises:
        ValueError: if the outcomes do not pair, or there are none.
    """
    found = paired_bootstrap(a, b, resamples=resamples, seed=seed)
    differences = {name: a[name].sum(axis=(0, 2)) - b[name].sum(axis=(0, 2)) for name in a}
    p_values = {name: sign_flip_test(difference) for name, difference in differences.items()}
    adjusted = holm(p_values)
    environments = {
        name: EnvironmentComparison(
            rates=found.environments[name],
            tasks=len(difference),
            better=int((difference > 0).sum()),
            worse=int((difference < 0).sum()),
            discordance=float(np.mean(a[name] != b[name])),
            p=p_values[name],
            p_holm=adjusted[name],
        )
        for name, difference in differences.items()
    }
    return Comparison(environments, found.macro, found.task_weighted, found.iqm, seeds=next(iter(a.values())).shape[0])
