"""Methods against the reference: pooled success, paired intervals and tests, as far as the runs allow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedse.errors import RunError
from fedse.evaluation import macro_average, task_weighted_average
from fedse.evaluation.bootstrap import Estimate
from fedse.evaluation.comparison import Comparison, compare
from fedse.report.study import Study
from fedse.results.groups import Group
from fedse.results.held_out import HeldOut, pair_runs, read_held_out
from fedse.results.method_rates import method_rates
from fedse.results.reading import Run
from fedse.runs.evaluators import evaluators
from fedse.types import SuccessRate


@dataclass(frozen=True)
class Standing:
    """A group and how it stands beside its reference.

    Attributes:
        group: the runs.
        reference: what it is compared with; none for the reference itself and where there is none.
        seeds: those with a complete run, the first of each; no other run is in a number here.
        rates: environment → success of their last rounds, its interval that of
            :func:`~fedse.results.method_rates.method_rates`.
        macro: mean of the environments' rates with its bootstrap interval; none without complete runs whose episodes
            are there.
        comparison: the group as method A, its reference as B, over the seeds of both; none where they do not pair.
        obstacle: why there is no comparison; empty where none is due.
    """

    group: Group
    reference: Group | None
    seeds: tuple[int, ...]
    rates: Mapping[str, SuccessRate]
    macro: Estimate | None
    comparison: Comparison | None
    obstacle: str = ""

    @property
    def mean(self) -> float:
        """Mean of the environments' pooled rates; NaN without any."""
        return macro_average(self.rates)

    @property
    def weighted(self) -> float:
        """Successes out of all episodes, as in the paper's tables; NaN without any."""
        return task_weighted_average(self.rates)

    @property
    def gain(self) -> Estimate | None:
        """Group less reference, mean of environments, in [-1, 1]."""
        return self.comparison.macro.difference if self.comparison else None

    def gain_in(self, environment: str) -> Estimate | None:
        """Group less reference in one environment."""
        if self.comparison is None or environment not in self.comparison.environments:
            return None
        return self.comparison.environments[environment].rates.difference

    def p_in(self, environment: str) -> float:
        """Holm-adjusted p-value in one environment; NaN where there is no comparison."""
        if self.comparison is None or environment not in self.comparison.environments:
            return float("nan")
        return self.comparison.environments[environment].p_holm


def standings(study: Study) -> list[Standing]:
    """Every group of a study beside its reference.

    Complete runs only are compared, by paired stratified bootstrap over tasks and seeds and by exact tests over tasks
    with Holm's correction over the environments, as ``fedse compare`` does it.

    Raises:
        RunError, StorageError: if a file of episodes is damaged or cannot be read.
    """
    held = {group.label: _held_out(group) for group in study.groups}
    return [_standing(group, study.reference_of(group), held) for group in study.groups]


def _standing(group: Group, reference: Group | None, held: Mapping[str, Mapping[int, HeldOut]]) -> Standing:
    complete = replace(group, runs=tuple(run for run in group.counted if run.is_complete))
    own = held[group.label]
    rates = method_rates(complete.final_by_run(), list(own.values()))
    base = Standing(
        group,
        reference,
        seeds=tuple(run.config.seed for run in complete.runs),
        rates=rates.environments,
        macro=rates.macro,
        comparison=None,
    )
    if reference is None:
        return base
    other = held[reference.label]
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        obstacle = f"no seed yet whose runs are complete on both sides and hold their episodes ({reference.label})"
        return replace(base, obstacle=obstacle)
    try:
        paired = pair_runs([own[seed] for seed in seeds], [other[seed] for seed in seeds])
    except RunError as error:
        return replace(base, obstacle=error.what)
    return replace(base, comparison=compare(paired.a, paired.b))


def _held_out(group: Group) -> dict[int, HeldOut]:
    """Seed → held-out episodes of its complete run, if they are there."""
    return {
        run.config.seed: read_held_out(run.layout.root)
        for run in group.counted
        if run.is_complete and _has_episodes(run)
    }


def _has_episodes(run: Run) -> bool:
    """Sites may keep their episodes to themselves."""
    sites = evaluators(run.config).values()
    return all(run.layout.evaluation(site, run.config.rounds).is_file() for site in sites)
