"""The held-out episodes of runs, before and after evolution, as data for the page's browser."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedse.federation.evaluators import evaluators
from fedse.federation.trajectory_files import read_trajectories
from fedse.report.groups import Group
from fedse.report.reading import Run
from fedse.types import Trajectory

#: Tasks shown of one environment in one run, at most.
MOST_TASKS = 60
_LONGEST_TEXT = 6000
_ACTION_MARK = "Action:"


@dataclass(frozen=True)
class _Shelf:
    """One environment of one run: (task, sample) → the episode before and the one after."""

    run: str
    environment: str
    rounds: tuple[int, int]
    pairs: Mapping[tuple[str, int], tuple[Trajectory | None, Trajectory | None]]


def browser_data(groups: Sequence[Group], *, budget: int) -> dict[str, Any]:
    """What the browser shows.

    Each environment of each run gets an equal share of the budget, and its first tasks in the order of evaluation are
    taken while they fit, so that nothing is chosen by its outcome.

    Args:
        groups: the runs.
        budget: bytes of JSON, about.

    Returns:
        ``shelves``, each with ``run``, ``environment``, ``rounds``, ``total`` (tasks there are) and ``pairs``; and
        ``instructions``, the system messages, which episodes name by their index.

    Raises:
        RunError, StorageError: if a file of episodes is damaged or cannot be read.
    """
    shelves = [shelf for group in groups for run in group.runs for shelf in _shelves(run, group.label_of(run))]
    instructions: dict[str, int] = {}
    return {
        "shelves": [_shelf_data(shelf, budget // len(shelves), instructions) for shelf in shelves],
        "instructions": [_cut(text) for text in instructions],
    }


def _shelves(run: Run, label: str) -> Iterator[_Shelf]:
    if not run.evaluated:
        return
    first, last = run.evaluated[0], run.evaluated[-1]
    for environment, site in evaluators(run.config).items():
        found = [_by_task(run, site, round) for round in (first, last)]
        before, after = found if last > first else (found[0], {})
        keys = list(dict.fromkeys([*before, *after]))
        if keys:  # a site may keep its episodes to itself
            yield _Shelf(label, environment, (first, last), {key: (before.get(key), after.get(key)) for key in keys})


def _by_task(run: Run, site: str, round: int) -> dict[tuple[str, int], Trajectory]:
    """(task, how many times it was played before) → episode."""
    path = run.layout.evaluation(site, round)
    found: dict[tuple[str, int], Trajectory] = {}
    for trajectory in read_trajectories(path) if path.is_file() else []:
        sample = 0
        while (trajectory.task.id, sample) in found:
            sample += 1
        found[trajectory.task.id, sample] = trajectory
    return found


def _shelf_data(shelf: _Shelf, budget: int, instructions: dict[str, int]) -> dict[str, Any]:
    pairs: list[dict[str, Any]] = []
    for (task, sample), (before, after) in list(shelf.pairs.items())[:MOST_TASKS]:
        pair = {
            "task": f"{task}, sample {sample + 1}" if sample else task,
            "before": _episode(before, instructions),
            "after": _episode(after, instructions),
        }
        budget -= len(json.dumps(pair))
        if budget < 0:
            break
        pairs.append(pair)
    return {
        "run": shelf.run,
        "environment": shelf.environment,
        "rounds": shelf.rounds,
        "total": len(shelf.pairs),
        "pairs": pairs,
    }


def _episode(trajectory: Trajectory | None, instructions: dict[str, int]) -> dict[str, Any] | None:
    if trajectory is None:
        return None
    record = trajectory.tokens
    return {
        "outcome": {None: "fault", True: "success", False: "failure"}[trajectory.success],
        "stop": trajectory.stop.value,
        "reward": f"{trajectory.reward:g}",
        "instruction": instructions.setdefault(trajectory.instruction, len(instructions)),
        "turns": [_turn(turn.observation, turn.response, turn.truncated) for turn in trajectory.turns],
        "final": _cut(trajectory.final_observation),
        "error": _cut(trajectory.error),
        "tokens": None if record is None else [sum(end - start for start, end in record.spans), len(record.ids)],
    }


def _turn(observation: str, response: str, truncated: bool) -> dict[str, Any]:
    thought, mark, action = response.partition(_ACTION_MARK)
    return {
        "observation": _cut(observation),
        "thought": _cut(thought),
        "action": _cut(mark + action),
        "truncated": truncated,
    }


def _cut(text: str) -> str:
    rest = len(text) - _LONGEST_TEXT
    return text if rest <= 0 else f"{text[:_LONGEST_TEXT]} … ({rest} more characters)"
