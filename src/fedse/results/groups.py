"""Runs of one configuration, which differ in their seeds only, put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedse.evaluation.rates import pooled, wilson_interval
from fedse.progress import Phase
from fedse.results.reading import Run
from fedse.types import SuccessRate


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed and what cannot change a result.

    Attributes:
        label: the configuration's name; with a run's folder where different configurations have one name.
        runs: in the order given, at least one.
        colour: index of its colour and marker in all figures.
        model: which others it can be compared with.
        method: its name in a suite; empty for runs without one.
        description: one line; empty for runs without a suite.
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
        return f"{self.label}, {f'seed {run.config.seed}' if seeds.count(run.config.seed) == 1 else run.layout.root}"

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites."""
        return tuple(client.name for client in self.runs[0].config.clients)

    @property
    def counted(self) -> tuple[Run, ...]:
        """One run of each seed: its first complete one, else its first; repeating a seed adds no evidence."""
        first: dict[int, Run] = {}
        for run in self.runs:
            found = first.setdefault(run.config.seed, run)
            if run.is_complete and not found.is_complete:
                first[run.config.seed] = run
        return tuple(first.values())

    @property
    def measured(self) -> tuple[Run, ...]:
        """Those whose success is put together: of the counted runs the complete ones; while none is, all evaluated."""
        complete = tuple(run for run in self.counted if run.is_complete)
        return complete or tuple(run for run in self.counted if run.evaluated)

    def mean(self, phase: Phase, metric: str, *, site: str) -> dict[int, float]:
        """Round → mean of a site's metric over the seeds that have it; NaN is no value."""
        values: dict[int, list[float]] = {}
        for run in self.counted:
            for round, value in run.series(phase, metric, site=site).items():
                if not math.isnan(value):
                    values.setdefault(round, []).append(value)
        return {round: math.fsum(found) / len(found) for round, found in sorted(values.items())}

    def explored(self, site: str) -> dict[int, SuccessRate]:
        """Round → success of a site's exploration, the episodes of all seeds pooled."""
        rates: dict[int, list[SuccessRate]] = {}
        for run in self.counted:
            for round, rate in explored_in(run, site).items():
                rates.setdefault(round, []).append(rate)
        return {round: pooled(found) for round, found in sorted(rates.items())}

    def evaluated(self, environment: str) -> dict[int, SuccessRate]:
        """Round → success on held-out tasks, pooled over :attr:`measured`, in the rounds that all of them have.

        Where other runs are in one round than in the next, their difference would pass for a change.
        """
        return {round: pooled(rates) for round, rates in self._evaluated(environment).items()}

    def final(self) -> dict[str, SuccessRate]:
        """Environment → pooled success after the last round that was evaluated there."""
        return {environment: pooled(rates) for environment, rates in self.final_by_run().items()}

    def final_by_run(self) -> dict[str, list[SuccessRate]]:
        """Environment → success after the last round of :meth:`evaluated`, one rate for each of :attr:`measured`."""
        rates = {environment: self._evaluated(environment) for environment in environments_of([self])}
        return {environment: found[max(found)] for environment, found in rates.items() if found}

    def _evaluated(self, environment: str) -> dict[int, list[SuccessRate]]:
        runs = [
            {record.round: record.evaluation[environment] for record in run.records if environment in record.evaluation}
            for run in self.measured
        ]
        common = sorted(set.intersection(*map(set, runs))) if runs else []
        return {round: [rates[round] for rates in runs] for round in common}

    def adapter_bytes(self) -> float:
        """Bytes that a site sends in a round, the mean over all; NaN where no adapters travel."""
        sizes = [found.value for run in self.counted for found in run.measurements if found.metric == "bytes_up"]
        return math.fsum(sizes) / len(sizes) if sizes else float("nan")


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs of one configuration together, in the order in which each first appears."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(repr(method_settings(run)), []).append(run)
    names = [found[0].config.name for found in members.values()]
    folders = [found[0].layout.root.name for found in members.values()]
    groups = []
    for at, (name, folder, found) in enumerate(zip(names, folders, members.values(), strict=True)):
        place = folder if folders.count(folder) == 1 else found[0].layout.root
        seeds = len({run.config.seed for run in found})
        label = name if names.count(name) == 1 else f"{name} ({place})"
        groups.append(Group(label, tuple(found), at, found[0].config.model.name, planned=seeds))
    return groups


def method_settings(run: Run) -> Mapping[str, Any]:
    """The configuration as dotted keys → values, without the seed, the number of processes and the device."""
    flat: dict[str, Any] = {}
    for key, value in run.config.model_dump(mode="json").items():
        flat |= {f"{key}.{name}": entry for name, entry in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if key not in ("seed", "workers", "model.device")}


def environments_of(groups: Sequence[Group]) -> list[str]:
    """The labels of all evaluations, in the order of their first appearance."""
    found = (record.evaluation for group in groups for run in group.runs for record in run.records)
    return list(dict.fromkeys(label for evaluation in found for label in evaluation))


def explored_in(run: Run, site: str) -> dict[int, SuccessRate]:
    """Round → success of a site's exploration in one run."""
    won, played, lost = (run.series(Phase.EXPLORE, metric, site=site) for metric in ("successes", "episodes", "errors"))
    rates = {}
    for round, episodes in played.items():
        errors = int(lost.get(round, 0))
        rates[round] = _rate_of(int(won.get(round, 0)), int(episodes) - errors, errors)
    return rates


def _rate_of(successes: int, episodes: int, errors: int = 0) -> SuccessRate:
    """A success rate with its Wilson interval, from counts."""
    low, high = wilson_interval(successes, episodes)
    return SuccessRate(successes=successes, episodes=episodes, errors=errors, low=low, high=high)
