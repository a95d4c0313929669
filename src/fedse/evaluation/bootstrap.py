"""Bootstrap intervals for two methods that played the same tasks under the same training seeds.

Resampled are the training seeds and, within each environment, the tasks (a stratified bootstrap: Davison & Hinkley
1997, "Bootstrap Methods and their Application", section 3.2).  Both methods keep the same draws, so that what they
share, the difficulty of a task or a lucky seed, cancels in their difference.  A seed is drawn as a whole, for all
environments at once: one training run made them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from fedse.seeding import numpy_generator

#: Environment → successes, shape (seeds, tasks, samples); environments may differ in tasks and samples, not in seeds.
Outcomes = Mapping[str, npt.NDArray[np.bool_]]
Rates = npt.NDArray[np.float64]

RESAMPLES = 10_000
_CONFIDENCE = 0.95
_CHUNK = 1_000  # bounds the memory of one draw to chunk × tasks numbers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of the data with the bounds of its 95 % percentile interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """In another unit, as in percent."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high)


@dataclass(frozen=True, slots=True)
class Contrast:
    """One statistic of method A, of method B, and A − B, resampled together."""

    a: Estimate
    b: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What a bootstrap says of two methods; all rates in [0, 1].

    Attributes:
        environments: environment → success rate over its seeds and tasks.
        macro: mean of the environments' rates, the primary endpoint.
        task_weighted: mean over all tasks, in which environments with many tasks count more.
        iqm: interquartile mean over the rates of all seeds and environments.
    """

    environments: Mapping[str, Contrast]
    macro: Contrast
    task_weighted: Contrast
    iqm: Contrast


def paired_bootstrap(a: Outcomes, b: Outcomes, *, resamples: int = RESAMPLES, seed: int = 0) -> BootstrapResult:
    """Rates of two methods and their differences, with percentile intervals.

    With one seed the intervals cover the choice of tasks only; with S seeds the part that covers the training is too
    narrow by about √((S − 1) / S), as any bootstrap of so few.

    Args:
        a: successes of the first method.
        b: those of the second; equal keys and shapes, entry by entry the same seed, task and sample.
        resamples: bootstrap samples.
        seed: of the draws.

    Raises:
        ValueError: if the methods' outcomes do not pair, or there are none.
    """
    _check(a, b)
    generator = numpy_generator(seed, "paired bootstrap")
    seeds = next(iter(a.values())).shape[0]
    drawn = generator.integers(seeds, size=(resamples, seeds))
    # Axes: method, environment, resample, seed.  The data themselves are resample 0.
    rates = np.stack([_resampled_rates(a[name], b[name], drawn, generator) for name in a], axis=1)
    tasks = np.array([outcomes.shape[1] for outcomes in a.values()])
    return BootstrapResult(
        environments={name: _contrast(rates[:, [index]], macro_mean) for index, name in enumerate(a)},
        macro=_contrast(rates, macro_mean),
        task_weighted=_contrast(rates, partial(task_mean, tasks)),
        iqm=_contrast(rates, interquartile_mean),
    )


def macro_mean(rates: Rates) -> Rates:
    """Mean over environments and seeds.

    Args:
        rates: shape (environments, …, seeds).

    Returns:
        Shape (…).
    """
    return np.asarray(rates.mean(axis=(0, -1)))


def task_mean(tasks: npt.NDArray[np.int64], rates: Rates) -> Rates:
    """Mean over seeds and over all tasks, whatever environment they are of.

    Args:
        tasks: how many each environment has, shape (environments,).
        rates: shape (environments, …, seeds).

    Returns:
        Shape (…).
    """
    return np.asarray(np.tensordot(tasks / tasks.sum(), rates.mean(axis=-1), axes=1))


def interquartile_mean(rates: Rates) -> Rates:
    """Mean of the middle half of the rates of all environments and seeds.

    Of n rates the ⌊n / 4⌋ smallest and largest are left out, so that neither a hopeless environment nor a saturated one
    decides; less scattered than the median (Agarwal et al. 2021, arXiv 2108.13264, section 4.3).

    Args:
        rates: shape (environments, …, seeds).

    Returns:
        Shape (…).
    """
    flat = np.sort(np.concatenate(list(rates), axis=-1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def _check(a: Outcomes, b: Outcomes) -> None:
    if a.keys() != b.keys() or not a:
        raise ValueError(f"environments {sorted(a)} do not pair with {sorted(b)}")
    for name in a:
        if a[name].shape != b[name].shape or a[name].ndim != 3 or a[name].size == 0:
            raise ValueError(f"outcomes of shape {a[name].shape} do not pair with {b[name].shape} in {name}")
    if len({outcomes.shape[0] for outcomes in a.values()}) > 1:
        raise ValueError("environments differ in the number of seeds")


def _resampled_rates(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], drawn: npt.NDArray[np.int64], generator: np.random.Generator
) -> Rates:
    """Rates in one environment, shape (2, 1 + resamples, seeds); index 0 holds those of the data."""
    scores = np.stack([a.mean(axis=-1), b.mean(axis=-1)])  # (methods, seeds, tasks)
    tasks = scores.shape[-1]
    parts = [scores.mean(axis=-1)[:, None, :]]
    for start in range(0, len(drawn), _CHUNK):
        seeds = drawn[start : start + _CHUNK]
        rates = _task_counts(tasks, len(seeds), generator) @ scores.transpose(0, 2, 1) / tasks
        parts.append(np.take_along_axis(rates, seeds[None], axis=-1))
    return np.concatenate(parts, axis=1)


def _task_counts(tasks: int, resamples: int, generator: np.random.Generator) -> Rates:
    """How often each task is drawn in each resample, shape (resamples, tasks)."""
    drawn = generator.integers(tasks, size=(resamples, tasks)) + tasks * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * tasks).reshape(resamples, tasks).astype(np.float64)


def _contrast(rates: Rates, statistic: Callable[[Rates], Rates]) -> Contrast:
    """A statistic of rates of shape (2, environments, 1 + resamples, seeds)."""
    a, b = statistic(rates[0]), statistic(rates[1])
    return Contrast(_estimate(a), _estimate(b), _estimate(a - b))


def _estimate(values: Rates) -> Estimate:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return Estimate(float(values[0]), float(low), float(high))
