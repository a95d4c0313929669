"""The held-out episodes of finished runs, read from their folders, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedse.config import RunConfig
from fedse.errors import RunError
from fedse.evaluation.bootstrap import Outcomes
from fedse.results.reading import Run, run_at
from fedse.runs.identity import method_differences, protocol


@dataclass(frozen=True)
class HeldOut:
    """The held-out episodes of one run after its last round.

    Attributes:
        name: what messages call it.
        config: its configuration.
        protocols: environment → setting → value, of all that decides how its tasks are played.
        successes: environment → task → the verdict of each sample; ``None`` for an episode lost to a fault.
    """

    name: str
    config: RunConfig
    protocols: Mapping[str, Mapping[str, Any]]
    successes: Mapping[str, Mapping[str, tuple[bool | None, ...]]]


@dataclass(frozen=True)
class PairedRuns:
    """The outcomes of two methods, entry by entry the same seed, task and sample.

    Attributes:
        a: successes of the first method.
        b: those of the second.
        seeds: the training seeds, in the order of the arrays' first axis.
        dropped: environment → tasks left out because a run lost one of their episodes to a fault.
    """

    a: Outcomes
    b: Outcomes
    seeds: tuple[int, ...]
    dropped: Mapping[str, int]


def read_held_out(folder: Path, *, name: str = "") -> HeldOut:
    """Read the held-out episodes of a finished run from its folder; see :func:`held_out`.

    Raises:
        RunError: if the folder is no run, its run is not finished, or a file is damaged.
        StorageError: if a file cannot be read.
    """
    return held_out(run_at(folder), name)


def held_out(run: Run, name: str = "") -> HeldOut:
    """The held-out episodes of a finished run's last round, the primary endpoint.

    Args:
        run: the run.
        name: what messages that compare the run call it; by default its folder.

    Raises:
        RunError: if the run is not finished, a site's folder is not here, or a file is damaged.
        StorageError: if a file cannot be read.
    """
    config = run.config
    if not run.is_complete:
        raise RunError(
            f"{run.folder} is not finished: {run.rounds_done} of {config.rounds} rounds",
            f"the last round is what is compared; fedse run --resume --out {run.folder} goes on with it",
        )
    clients = {client.name: client for client in config.clients}
    protocols, successes = {}, {}
    for label, site in run.evaluators.items():
        protocols[label] = protocol(config, clients[site])
        verdicts: dict[str, tuple[bool | None, ...]] = {}
        for episode in run.episodes("held-out", site, config.rounds):
            verdicts[str(episode.task)] = (*verdicts.get(str(episode.task), ()), episode.success)
        successes[label] = verdicts
    return HeldOut(name or str(run.folder), config, protocols, successes)


def pair_runs(a: Sequence[HeldOut], b: Sequence[HeldOut]) -> PairedRuns:
    """Arrange the runs of two methods so that they pair, or say why they cannot be compared.

    The runs of one method have one training seed each.  Several runs may share a seed if they have different
    environments, as where each site learns alone; together they then count as one run of that seed.

    Args:
        a: runs of the first method.
        b: runs of the second.

    Raises:
        RunError: naming what differs, if runs of one method differ in more than seed and sites, or the methods in
            seeds, environments, held-out tasks, limits of an episode or decoding.
    """
    sides = [_by_seed(runs) for runs in (a, b)]
    for runs in (a, b):
        _check_same_method(runs)
    _check_same_seeds(*sides)
    seeds = tuple(sorted(sides[0]))
    outcomes: list[dict[str, Any]] = [{}, {}]
    dropped = {}
    for label in sorted(sides[0][seeds[0]]):
        runs = [side[seed][label] for side in sides for seed in seeds]
        _check_same_protocol(label, runs)
        tasks = _common_tasks(label, runs)
        verdicts = [[run.successes[label][task] for task in tasks] for run in runs]
        whole = [index for index, _ in enumerate(tasks) if all(None not in row[index] for row in verdicts)]
        if not whole:
            raise RunError(
                f"{label}: every task lost an episode to a fault in one of the runs",
                "mend the environment (fedse env check NAME shows what is wrong) and run anew",
            )
        dropped[label] = len(tasks) - len(whole)
        stacked = np.array([[row[index] for index in whole] for row in verdicts], dtype=np.bool_)
        outcomes[0][label], outcomes[1][label] = stacked[: len(seeds)], stacked[len(seeds) :]
    return PairedRuns(outcomes[0], outcomes[1], seeds, dropped)


def _by_seed(runs: Iterable[HeldOut]) -> dict[int, dict[str, HeldOut]]:
    """Seed → environment → the run that has it."""
    by_seed: dict[int, dict[str, HeldOut]] = {}
    for run in runs:
        environments = by_seed.setdefault(run.config.seed, {})
        for label in run.successes:
            if label in environments:
                first = environments[label].name
                raise RunError(
                    f"{first} and {run.name} are both runs of seed {run.config.seed} with {label}",
                    "name one run per training seed; repeating a seed adds no evidence",
                )
            environments[label] = run
    return by_seed


def _check_same_method(runs: Sequence[HeldOut]) -> None:
    first, *others = runs
    for run in others:
        _refuse_differing(
            "the runs of one side are of different methods",
            [_told(first, run, *values) for values in method_differences(first.config, run.config)],
            "name them apart",
        )


def _check_same_seeds(a: Mapping[int, Mapping[str, HeldOut]], b: Mapping[int, Mapping[str, HeldOut]]) -> None:
    """The sides have the same seeds, and every seed of either has the same environments."""
    if a.keys() != b.keys():
        raise RunError(
            f"the methods have different training seeds: {sorted(a)} against {sorted(b)}",
            "name runs of the same seeds, so that they pair",
        )
    complete = set().union(*(environments for side in (a, b) for environments in side.values()))
    missing = [
        f"{label} of seed {seed} in {side}"
        for side, runs in (("A", a), ("B", b))
        for seed, environments in sorted(runs.items())
        for label in sorted(complete - environments.keys())
    ]
    what = "the runs do not have the same environments; missing"
    _refuse_differing(what, missing, "name runs that have them all")


def _check_same_protocol(label: str, runs: Sequence[HeldOut]) -> None:
    first, *others = runs
    expected = first.protocols[label]
    for run in others:
        other = run.protocols[label]
        keys = dict.fromkeys([*expected, *other])
        _refuse_differing(
            f"{label} was not played in the same way",
            [
                _told(first, run, key, expected.get(key, "not set"), other.get(key, "not set"))
                for key in keys
                if expected.get(key) != other.get(key)
            ],
            "evaluate both methods with the same tasks, limits and decoding",
        )


def _common_tasks(label: str, runs: Sequence[HeldOut]) -> list[str]:
    first, *others = runs
    tasks = first.successes[label]
    for run in others:
        other = run.successes[label]
        differing = sorted(tasks.keys() ^ other.keys())
        if differing:
            raise RunError(
                f"{label}: {first.name} has {len(tasks)} held-out tasks and {run.name} has {len(other)}; "
                f"{len(differing)} are in one of them only, as {differing[0]}",
                "evaluate both methods on the same tasks (evaluation.tasks, test_split)",
            )
    return list(tasks)


def _told(one: HeldOut, other: HeldOut, key: str, value: object, others: object) -> str:
    return f"{key} is {value} in {one.name}, {others} in {other.name}"


def _refuse_differing(what: str, lines: Sequence[str], mend: str) -> None:
    if lines:
        raise RunError(f"{what}:" + "".join(f"\n  - {line}" for line in lines), mend)
