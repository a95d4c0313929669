"""Exact tests for two methods on the same tasks, and the correction for testing several environments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt


def mcnemar_exact(better: int, worse: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    Under the null hypothesis a task that only one of the methods solves is solved by either with probability one half:
    p = min(1, 2 · P(X ≤ min(better, worse))) with X ~ Binomial(better + worse, ½) (McNemar 1947, Psychometrika
    12:153).  Tasks on which the methods agree say nothing.

    Args:
        better: tasks that only the first method solves.
        worse: tasks that only the second one solves.
    """
    if better + worse == 0:
        return 1.0
    from scipy.stats import binomtest  # about a second to import

    return float(binomtest(better, better + worse, 0.5).pvalue)


def sign_flip_test(differences: npt.NDArray[np.int64]) -> float:
    """Exact two-sided p-value of the paired permutation test over tasks.

    Under the null hypothesis the methods can be exchanged on every task by itself, which flips the sign of the task's
    difference (Fisher 1935, "The Design of Experiments", section 21).  The distribution of the sum over all flips is
    computed exactly.  With one episode per task the differences are −1, 0 or 1 and the test is McNemar's; with several
    seeds or samples it keeps together the episodes of one task, which are not independent.

    Args:
        differences: successes of the first method less those of the second, one whole number per task.
    """
    sizes = np.abs(differences[differences != 0])
    observed = int(abs(differences.sum()))
    if len(set(sizes.tolist())) <= 1:
        return mcnemar_exact(int((differences > 0).sum()), int((differences < 0).sum()))
    total = int(sizes.sum())
    probabilities = np.zeros(2 * total + 1)  # of the sums −total … total
    probabilities[total] = 1.0
    for size in sizes.tolist():
        flipped = np.zeros_like(probabilities)
        flipped[size:] += 0.5 * probabilities[:-size]
        flipped[:-size] += 0.5 * probabilities[size:]
        probabilities = flipped
    sums = np.arange(-total, total + 1)
    return min(1.0, float(probabilities[np.abs(sums) >= observed].sum()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values that keep the chance of any false finding below the level tested at.

    The m p-values in rising order are multiplied by m, m − 1, …, 1 and made monotone (Holm 1979, Scand. J. Statist.
    6:65).
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
