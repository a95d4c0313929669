"""Runs of one method, which differ in their seeds, put together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedse.evaluation.rates import pooled, rate_of
from fedse.progress import Phase
from fedse.results.exchange import UP
from fedse.results.reading import Run
from fedse.runs.identity import method_settings
from fedse.types import SuccessRate

_Value = TypeVar("_Value")

#: Round → success rate.
Course = Mapping[int, SuccessRate]


@dataclass(frozen=True)
class Group:
    """Runs of one method and one name.

    Attributes:
        label: the configuration's name; with a run's folder where different methods have one name.
        runs: in the order given; of a suite's method as far as they have begun.
        colour: index of its colour and marker in all figures.
        model: which others it can be compared with.
        method, description: its name in a suite and what that says of it in a line; empty without a suite.
        planned: how many seeds there are to be.
    """

    label: str
    runs: tuple[Run, ...]
    colour: int = 0
    model: str = ""
    method: str = ""
    description: str = ""
    planned: int = 1

    def label_of(self, run: Run) -> str:
        """What to call one of the runs."""
        if len(self.runs) == 1:
            return self.label
        seeds = [other.config.seed for other in self.runs]
        return f"{self.label}, {f'seed {run.config.seed}' if seeds.count(run.config.seed) == 1 else run.folder}"

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites."""
        return self.runs[0].sites

    @property
    def counted(self) -> tuple[Run, ...]:
        """One run of each seed: its first complete one, else its first; repeating a seed adds no evidence."""
        first: dict[int, Run] = {}
        for run in self.runs:
            earlier = first.setdefault(run.config.seed, run)
            if run.is_complete and not earlier.is_complete:
                first[run.config.seed] = run
        return tuple(first.values())

    @property
    def complete(self) -> tuple[Run, ...]:
        """Those of the counted runs that are complete; only these are compared with other methods."""
        return tuple(run for run in self.counted if run.is_complete)

    @property
    def measured(self) -> tuple[Run, ...]:
        """Those whose success is put together: the complete ones; while none is, all that were evaluated."""
        return self.complete or tuple(run for run in self.counted if run.evaluated)

    def mean(self, phase: Phase, metric: str, *, site: str) -> dict[int, float]:
        """Round → mean of a site's metric over the seeds that have it; NaN is no value."""
        series = (run.series(phase, metric, site=site) for run in self.counted)
        known = ({number: value for number, value in of_run.items() if not math.isnan(value)} for of_run in series)
        return {number: math.fsum(values) / len(values) for number, values in by_round(known).items()}

    def explored(self, site: str) -> Course:
        """Success of a site's exploration, the episodes of all seeds pooled."""
        rates = by_round(explored_in(run, site) for run in self.counted)
        return {number: pooled(of_seeds) for number, of_seeds in rates.items()}

    def evaluated(self, environment: str) -> Course:
        """Success on held-out tasks, pooled over :attr:`measured`, in the rounds that all of them have.

        Where other runs are in one round than in the next, their difference would pass for a change.
        """
        return {number: pooled(rates) for number, rates in self._evaluated(environment).items()}

    def courses(self) -> dict[str, Course]:
        """Environment → :meth:`evaluated`, where that has rounds."""
        return {name: course for name in environments_of([self]) if (course := self.evaluated(name))}

    def final_by_run(self) -> dict[str, list[SuccessRate]]:
        """Environment → success after the last round of :meth:`evaluated`, one rate for each of :attr:`measured`."""
        rates = {name: self._evaluated(name) for name in environments_of([self])}
        return {name: of_rounds[max(of_rounds)] for name, of_rounds in rates.items() if of_rounds}

    def _evaluated(self, environment: str) -> dict[int, list[SuccessRate]]:
        runs = [evaluated_in(run, environment) for run in self.measured]
        common = sorted(set.intersection(*map(set, runs))) if runs else []
        return {number: [rates[number] for rates in runs] for number in common}

    def bytes_sent(self) -> float:
        """Bytes that a site sends in a round, the mean over all; NaN where no adapters travel."""
        sizes = [value.value for run in self.counted for value in run.measurements if value.metric == UP]
        return math.fsum(sizes) / len(sizes) if sizes else math.nan


def by_round(runs: Iterable[Mapping[int, _Value]]) -> dict[int, list[_Value]]:
    """Round, rising → the values of the runs that have it."""
    values: dict[int, list[_Value]] = {}
    for of_run in runs:
        for number, value in of_run.items():
            values.setdefault(number, []).append(value)
    return dict(sorted(values.items()))


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs of one method and one name together, in the order in which each first appears."""
    members: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        members.setdefault((run.config.name, repr(method_settings(run.config))), []).append(run)
    names = Counter(name for name, _ in members)
    folders = Counter(of_method[0].folder.name for of_method in members.values())
    groups = []
    for at, ((name, _), of_method) in enumerate(members.items()):
        first = of_method[0].folder
        seeds = len({run.config.seed for run in of_method})
        label = name if names[name] == 1 else f"{name} ({first.name if folders[first.name] == 1 else first})"
        groups.append(Group(label, tuple(of_method), at, of_method[0].config.model.name, planned=seeds))
    return groups


def environments_of(groups: Sequence[Group]) -> list[str]:
    """The labels of all evaluations, in the order of their first appearance."""
    evaluations = (record.evaluation for group in groups for run in group.runs for record in run.records)
    return list(dict.fromkeys(label for evaluation in evaluations for label in evaluation))


def evaluated_in(run: Run, environment: str) -> Course:
    """Success of one run on the held-out tasks of an environment."""
    return {record.round: record.evaluation[environment] for record in run.records if environment in record.evaluation}


def explored_in(run: Run, site: str) -> Course:
    """Success of a site's exploration in one run."""
    won, played, lost = (run.series(Phase.EXPLORE, metric, site=site) for metric in ("successes", "episodes", "errors"))
    return {
        number: rate_of(int(won.get(number, 0)), int(episodes) - int(lost.get(number, 0)), int(lost.get(number, 0)))
        for number, episodes in played.items()
    }
