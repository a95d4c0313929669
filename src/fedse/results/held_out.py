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
from fedse.texts import command, counted


@dataclass(frozen=True)
class HeldOut:
    """The held-out episodes of one run after its last round.

    Attributes:
        name: what messages call the run.
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
        a, b: successes of the first and of the second method.
        seeds: the training seeds, in the order of the arrays' first axis.
        dropped: environment → tasks left out because a run lost one of their episodes to a fault.
    """

    a: Outcomes
    b: Outcomes
    seeds: tuple[int, ...]
    dropped: Mapping[str, int]


def read_held_out(folder: Path, *, name: str = "") -> HeldOut:
    """As :func:`held_out`, of a run folder.

    Raises:
        RunError, StorageError: also if the folder is no run.
    """
    return held_out(run_at(folder), name)


def held_out(run: Run, name: str = "") -> HeldOut:
    """The held-out episodes of a finished run's last round, the primary endpoint.

    Messages that compare the run call it ``name``, by default its folder.

    Raises:
        RunError: if the run is not finished, a site's folder is not here, or a file is damaged.
        StorageError: if a file cannot be read.
    """
    config = run.config
    if not run.is_complete:
        raise RunError(
            f"{run.folder} is not finished: {run.rounds_done} of {counted(config.rounds, 'round')}",
            f"the last round is what is compared; {command('fedse run --resume --out', run.folder)} goes on with it",
        )
    clients = {client.name: client for client in config.clients}
    protocols = {label: protocol(config, clients[site]) for label, site in run.evaluators.items()}
    successes: dict[str, dict[str, tuple[bool | None, ...]]] = {}
    for label, site in run.evaluators.items():
        verdicts = successes.setdefault(label, {})
        for episode in run.episodes("held-out", site, config.rounds):
            verdicts[str(episode.task)] = (*verdicts.get(str(episode.task), ()), episode.success)
    return HeldOut(name or str(run.folder), config, protocols, successes)


def pair_runs(a: Sequence[HeldOut], b: Sequence[HeldOut]) -> PairedRuns:
    """Arrange the runs of two methods so that they pair, or say why they cannot be compared.

    The runs of one method have one training seed each.  Several runs may share a seed if they have different
    environments, as where each site learns alone; together they then count as one run of that seed.

    Raises:
        RunError: naming what differs, if runs of one method differ in more than seed and sites, or the methods in
            seeds, environments, held-out tasks, limits of an episode or decoding.
    """
    sides = [_by_seed(runs) for runs in (a, b)]
    for first, *others in (a, b):
        for run in others:
            differing = method_differences(first.config, run.config)
            what = "the runs of one side are of different methods"
            _refuse_differing(what, [_told(first, run, *values) for values in differing], "name them apart")
    _check_same_seeds(*sides)
    seeds = tuple(sorted(sides[0]))
    outcomes: list[dict[str, Any]] = [{}, {}]
    dropped = {}
    for label in sorted(sides[0][seeds[0]]):
        runs = [side[seed][label] for side in sides for seed in seeds]
        for run in runs[1:]:
            _check_same_protocol(label, runs[0], run)
        for run in runs[1:]:
            _check_same_tasks(label, runs[0], run)
        tasks = list(runs[0].successes[label])
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
                raise RunError(
                    f"{environments[label].name} and {run.name} are both runs of seed {run.config.seed} with {label}",
                    "name one run per training seed; repeating a seed adds no evidence",
                )
            environments[label] = run
    return by_seed


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


def _check_same_protocol(label: str, one: HeldOut, other: HeldOut) -> None:
    values = one.protocols[label], other.protocols[label]
    differing = [
        _told(one, other, key, *(value.get(key, "not set") for value in values))
        for key in {**values[0], **values[1]}
        if values[0].get(key) != values[1].get(key)
    ]
    mend = "evaluate both methods with the same tasks, limits and decoding"
    _refuse_differing(f"{label} was not played in the same way", differing, mend)


def _check_same_tasks(label: str, one: HeldOut, other: HeldOut) -> None:
    tasks, others = one.successes[label], other.successes[label]
    if differing := sorted(tasks.keys() ^ others.keys()):
        raise RunError(
            f"{label}: {one.name} has {len(tasks)} held-out tasks and {other.name} has {len(others)}; "
            f"{len(differing)} are in one of them only, as {differing[0]}",
            "evaluate both methods on the same tasks (evaluation.tasks, test_split)",
        )


def _told(one: HeldOut, other: HeldOut, key: str, value: object, others: object) -> str:
    return f"{key} is {value} in {one.name}, {others} in {other.name}"


def _refuse_differing(what: str, lines: Sequence[str], mend: str) -> None:
    if lines:
        raise RunError(f"{what}:" + "".join(f"\n  - {line}" for line in lines), mend)
