"""The held-out episodes of finished runs, read from their folders, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedse.config import ClientConfig, RunConfig
from fedse.errors import RunError
from fedse.evaluation.bootstrap import Outcomes
from fedse.experience.trajectory_files import read_trajectories
from fedse.runs.evaluators import evaluators
from fedse.runs.folder import read_config, read_records
from fedse.runs.layout import RunLayout

#: Sections of a configuration in which the runs of one method may differ: those that name it, and those of the sites,
#: because a method without federation is a run per site.
_FREE = frozenset({"name", "seed", "workers", "clients", "partition"})
_LIMITS = ("max_response_tokens", "max_context", "max_repeats")


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
    """Read the held-out episodes of a finished run's last round, the primary endpoint.

    Args:
        folder: the run folder.
        name: what messages that compare the run call it; by default the folder.

    Raises:
        RunError: if the folder is no run, its run is not finished, or a file is damaged.
        StorageError: if a file cannot be read.
    """
    layout = RunLayout(folder)
    config = read_config(layout)
    done = len(read_records(layout)) - 1
    if done < config.rounds:
        raise RunError(
            f"{folder} is not finished: {max(0, done)} of {config.rounds} rounds",
            f"the last round is what is compared; fedse run --resume --out {folder} goes on with it",
        )
    clients = {client.name: client for client in config.clients}
    protocols, successes = {}, {}
    for label, site in evaluators(config).items():
        protocols[label] = _protocol(config, clients[site])
        verdicts: dict[str, tuple[bool | None, ...]] = {}
        for episode in read_trajectories(layout.evaluation(site, config.rounds)):
            verdicts[str(episode.task)] = (*verdicts.get(str(episode.task), ()), episode.success)
        successes[label] = verdicts
    return HeldOut(name or str(folder), config, protocols, successes)


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


def _protocol(config: RunConfig, client: ClientConfig) -> dict[str, Any]:
    protocol: dict[str, Any] = {
        "environment": client.environment,
        "options": dict(sorted(client.options.items())),
        "test_split": client.test_split,
        "evaluation.decoding": config.evaluation.decoding,
    }
    protocol["rollout.max_turns"] = config.turns_at(client)
    protocol |= {f"rollout.{name}": getattr(config.rollout, name) for name in _LIMITS}
    if config.evaluation.decoding == "sampled":
        protocol["evaluation.samples"] = config.evaluation.samples
        protocol["rollout.temperature"] = config.rollout.temperature
        protocol["rollout.min_p"] = config.rollout.min_p
    return protocol


def _by_seed(runs: Iterable[HeldOut]) -> dict[int, dict[str, HeldOut]]:
    """Seed → environment → the run that has it."""
    found: dict[int, dict[str, HeldOut]] = {}
    for run in runs:
        environments = found.setdefault(run.config.seed, {})
        for label in run.successes:
            if label in environments:
                first = environments[label].name
                raise RunError(
                    f"{first} and {run.name} are both runs of seed {run.config.seed} with {label}",
                    "name one run per training seed; repeating a seed adds no evidence",
                )
            environments[label] = run
    return found


def _check_same_method(runs: Sequence[HeldOut]) -> None:
    first, *others = runs
    expected = _settings(first.config)
    for run in others:
        found = _settings(run.config)
        differing = [
            f"{key} is {expected[key]} in {first.name}, {found[key]} in {run.name}"
            for key in expected.keys() & found.keys()
            if expected[key] != found[key]
        ]
        if differing:
            raise RunError(_listed("the runs of one side are of different methods", differing), "name them apart")


def _settings(config: RunConfig) -> dict[str, Any]:
    """Dotted key → value of all that makes a method; sites are compared where both runs have them."""
    data = config.model_dump(mode="json")
    sections = {name: section for name, section in data.items() if name not in _FREE}
    sections |= {f"clients.{client['name']}": client for client in data["clients"]}
    settings: dict[str, Any] = {}
    for name, section in sections.items():
        if isinstance(section, dict):
            settings |= {f"{name}.{key}": value for key, value in section.items()}
        else:
            settings[name] = section
    del settings["model.device"]
    return settings


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
    if missing:
        raise RunError(
            _listed("the runs do not have the same environments; missing", missing), "name runs that have them all"
        )


def _check_same_protocol(label: str, runs: Sequence[HeldOut]) -> None:
    first, *others = runs
    expected = first.protocols[label]
    for run in others:
        found = run.protocols[label]
        differing = [
            f"{key} is {expected.get(key, 'not set')} in {first.name}, {found.get(key, 'not set')} in {run.name}"
            for key in dict.fromkeys([*expected, *found])
            if expected.get(key) != found.get(key)
        ]
        if differing:
            raise RunError(
                _listed(f"{label} was not played in the same way", differing),
                "evaluate both methods with the same tasks, limits and decoding",
            )


def _common_tasks(label: str, runs: Sequence[HeldOut]) -> list[str]:
    first, *others = runs
    tasks = first.successes[label]
    for run in others:
        found = run.successes[label]
        differing = sorted(tasks.keys() ^ found.keys())
        if differing:
            raise RunError(
                f"{label}: {first.name} has {len(tasks)} held-out tasks and {run.name} has {len(found)}; "
                f"{len(differing)} are in one of them only, as {differing[0]}",
                "evaluate both methods on the same tasks (evaluation.tasks, test_split)",
            )
    return list(tasks)


def _listed(what: str, lines: Iterable[str]) -> str:
    return f"{what}:" + "".join(f"\n  - {line}" for line in lines)
