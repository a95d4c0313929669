"""Run folders made by hand: a configuration, the records of the rounds, and held-out episodes as told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.experience.trajectory_files import write_trajectories
from fedse.runs.layout import RunFolder
from fedse.runs.records import append_record
from fedse.settings import dump_config
from fedse.storage import atomic_write
from fedse.types import RoundRecord, Source, StopReason, Task, Trajectory
from helpers.made_folders import place

#: Environment → verdict of each held-out episode, in the order of the tasks.
Verdicts = Mapping[str, Sequence[bool | None]]


def make_run(
    folder: Path,
    verdicts: Verdicts,
    *,
    rounds: int = 1,
    done: int | None = None,
    samples: int = 1,
    tasks_from: int = 0,
    sites: Mapping[str, Mapping[str, Any]] | None = None,
    **sections: Any,
) -> Path:
    """A run whose episodes of the last round have these verdicts; those of earlier rounds all succeed."""
    clients = [{"name": name, "environment": name} | dict((sites or {}).get(name, {})) for name in verdicts]
    config = RunConfig.model_validate({"rounds": rounds, "clients": clients} | sections)
    layout = RunFolder(folder)
    folder.mkdir(parents=True)
    atomic_write(layout.server.config, dump_config(config))
    for round in range((rounds if done is None else done) + 1):
        append_record(layout.server, RoundRecord(round, {}, {}, "", {}))
        for name, outcomes in verdicts.items():
            told = outcomes if round == rounds else [True] * len(outcomes)
            episodes = [
                _episode(Task(name, str(tasks_from + index // samples)), success) for index, success in enumerate(told)
            ]
            write_trajectories(place(layout, name).evaluation(round), episodes)
    return folder


def _episode(task: Task, success: bool | None) -> Trajectory:
    stop = StopReason.ERROR if success is None else StopReason.DONE
    return Trajectory(task, Source.POLICY, "", (), "", success, 0.0, stop, error="" if success is not None else "lost")
