"""Methods beside their reference: pooled success, paired intervals and tests, as far as the runs allow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedse.errors import RunError
from fedse.evaluation import macro_average, task_weighted_average
from fedse.evaluation.bootstrap import Estimate
from fedse.evaluation.comparison import Comparison, EnvironmentComparison, compare
from fedse.results.groups import Group
from fedse.results.held_out import HeldOut, held_out, pair_runs
from fedse.results.method_rates import MethodRates, method_rates
from fedse.results.reading import Run
from fedse.types import SuccessRate

#: Below this adjusted p-value a difference is marked.
LEVEL = 0.05


@dataclass(frozen=True)
class Standing:
    """A group and how it stands beside its reference.

    Attributes:
        group: the runs.
        reference: what it is compared with; none for the reference itself and where there is none.
        seeds: those with a complete run, the first of each; no other run is in a number here.
        means: success after the last round, with the intervals of :func:`~fedse.results.method_rates.method_rates`.
        compared: the seeds that are complete on both sides and hold their episodes.
        comparison: the group as method A, its reference as B, over these seeds; none where they do not pair.
        dropped: environment → tasks that the comparison leaves out because a run lost one of their episodes to a fault.
        obstacle: why there is no comparison; empty where none is due.
    """

    group: Group
    reference: Group | None
    seeds: tuple[int, ...]
    means: MethodRates
    compared: tuple[int, ...] = ()
    comparison: Comparison | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def rates(self) -> Mapping[str, SuccessRate]:
        """Environment → success over the episodes of all seeds."""
        return self.means.environments

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

    def against_in(self, environment: str) -> EnvironmentComparison | None:
        """The comparison in one environment."""
        return self.comparison.environments.get(environment) if self.comparison else None

    def mark_in(self, environment: str) -> str:
        """``▲`` where the group is better than its reference in an environment, ``▼`` where it is worse; else empty."""
        against = self.against_in(environment)
        if against is None or not against.p_holm < LEVEL:
            return ""
        return "▲" if against.rates.difference.value > 0 else "▼"


def standings(
    groups: Sequence[Group],
    reference_of: Callable[[Group], Group | None],
    name_of: Callable[[Run], str] = lambda run: str(run.folder),
) -> list[Standing]:
    """Every group beside its reference.

    Only complete runs are compared: by paired stratified bootstrap over tasks and seeds, and by exact tests over tasks
    with Holm's correction over the environments, as ``fedse compare`` does it.  The reference of a group is itself one
    of the groups; a reference has none.  ``name_of`` is what messages call a run.

    Raises:
        RunError, StorageError: if a file of episodes is damaged or cannot be read.
    """
    read = {
        run.folder: held_out(run, name_of(run))
        for group in groups
        for run in group.complete  # whose sites may keep their episodes to themselves
        if all(run.has_episodes("held-out", site, run.config.rounds) for site in run.evaluators.values())
    }
    episodes = {
        group.label: {run.config.seed: read[run.folder] for run in group.complete if run.folder in read}
        for group in groups
    }
    return [_standing(group, reference_of(group), episodes) for group in groups]


def _standing(group: Group, reference: Group | None, episodes: Mapping[str, Mapping[int, HeldOut]]) -> Standing:
    own = episodes[group.label]
    rates = replace(group, runs=group.complete).final_by_run()
    seeds = tuple(run.config.seed for run in group.complete)
    alone = Standing(group, reference, seeds, method_rates(rates, list(own.values())))
    if reference is None:
        return alone
    other = episodes[reference.label]
    common = tuple(seed for seed in own if seed in other)
    if not common:
        obstacle = f"no seed yet whose runs are complete on both sides and hold their episodes ({reference.label})"
        return replace(alone, obstacle=obstacle)
    try:
        paired = pair_runs([own[seed] for seed in common], [other[seed] for seed in common])
    except RunError as error:
        return replace(alone, compared=common, obstacle=error.what)
    return replace(alone, compared=common, comparison=compare(paired.a, paired.b), dropped=paired.dropped)
