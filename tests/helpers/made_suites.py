"""Suite folders made by hand, without a model, and a small suite for the tiny one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedse.evaluation import success_rate
from fedse.experience.trajectory_files import write_trajectories
from fedse.federation.evaluators import evaluators
from fedse.runs.layout import RunFolder
from fedse.runs.records import append_record
from fedse.settings import dump_config
from fedse.storage import atomic_write, write_json
from fedse.suites import Cell, Suite, SuiteLayout, dump_suite
from fedse.suites.loading import parse_suite
from fedse.types import RoundRecord, Source, StopReason, SuccessRate, Task, Trajectory, Turn
from helpers.made_folders import place

#: Runs in a few seconds on the tiny model.
TINY = """
name: small
config:
  rounds: 2
  model: {name: tiny, device: cpu}
  clients:
    - {name: site, environment: wordle, demonstrations: 2, episodes_per_round: 2}
  rollout: {slots: 2, max_turns: 2, max_response_tokens: 8}
  training: {steps: 1, batch_size: 2}
  evaluation: {tasks: 2}
methods: [pre-trained, fedit, fed-se]
ablations: [rank-8]
seeds: [0, 1]
"""

#: Two sites and one round, for folders made by hand.
TWO_SITES = """
name: made
description: by hand
config:
  rounds: 1
  model: {name: tiny, device: cpu}
  clients:
    - {name: west, environment: maze}
    - {name: east, environment: wordle}
methods: [pre-trained, local, fedit, fed-se]
ablations: [no-history, rank-8]
seeds: [0, 1]
"""

Verdicts = Mapping[str, Sequence[bool | None]]


def suite(text: str = TINY) -> Suite:
    return parse_suite(text, "the test's suite")


def begin(made: Suite, root: Path) -> None:
    atomic_write(SuiteLayout(root).suite, dump_suite(made))


def cell(made: Suite, method: str, seed: int, *, model: str = "tiny") -> Cell:
    [found] = [cell for cell in made.cells() if cell.is_of(model, method) and cell.seed == seed]
    return found


def finish(
    found: Cell, root: Path, verdicts: Verdicts, *, transfer: Mapping[str, Mapping[str, SuccessRate]] | None = None
) -> None:
    """Make a complete run folder: environment → whether each task succeeded (``None``: lost to a fault)."""
    layout = begin_cell(found, root)
    episodes = {
        label: [_episode(label, index, verdict) for index, verdict in enumerate(verdicts[label])]
        for label in evaluators(found.config)
    }
    for round in range(found.config.rounds + 1):
        for label, client in evaluators(found.config).items():
            write_trajectories(place(layout, client.name).evaluation(round), episodes[label])
        is_last = round == found.config.rounds
        append_record(
            layout.server,
            RoundRecord(
                round=round,
                clients={},
                evaluation={label: success_rate(played) for label, played in episodes.items()},
                adapter="",
                seconds={"train": 5.0},
                transfer=transfer if transfer and is_last else {},
            ),
        )


def begin_cell(found: Cell, root: Path) -> RunFolder:
    layout = RunFolder(found.folder(root))
    atomic_write(layout.server.config, dump_config(found.config))
    return layout


def fail(found: Cell, root: Path, error: str) -> None:
    write_json(found.failure(root), {"schema_version": 1, "error": error, "trace": ""})


def _episode(environment: str, task: int, verdict: bool | None) -> Trajectory:
    return Trajectory(
        task=Task(environment, f"task-{task}"),
        source=Source.POLICY,
        instruction="Play.",
        turns=(Turn("see", "Thought: go\nAction: go", "go", 0.0),),
        final_observation="The end.",
        success=verdict,
        reward=float(bool(verdict)),
        stop=StopReason.ERROR if verdict is None else StopReason.DONE,
        error="the server is gone" if verdict is None else "",
    )
