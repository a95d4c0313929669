"""Run and suite folders made by hand, without a model, and a reader of the pages made of them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Container, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.config import RunConfig
from fedse.evaluation import success_rate
from fedse.experience.trajectory_files import write_trajectories
from fedse.federation.evaluators import evaluators
from fedse.progress import Phase
from fedse.runs.layout import RunFolder
from fedse.runs.records import append_record
from fedse.runs.rounds import GLOBAL
from fedse.seeding import numpy_generator
from fedse.storage import atomic_write
from fedse.suites import SuiteLayout, dump_suite
from fedse.suites.loading import parse_suite
from fedse.types import RoundRecord, Source, StopReason, Task, TokenRecord, Trajectory, Turn
from helpers.made_folders import begin_run, keep_round, mark, place

SECONDS = {Phase.DEMONSTRATE: 1.0, Phase.EXPLORE: 2.0, Phase.TRAIN: 3.0, Phase.EVALUATE: 4.0}


def config(**changes: Any) -> RunConfig:
    data = {"name": "made", "rounds": 2, "clients": [{"name": "west", "environment": "maze"}]}
    return RunConfig.model_validate(data | changes)


def episode(
    task: str,
    *,
    success: bool | None,
    text: str = "You are here.",
    turns: int = 2,
    round: int = 0,
    environment: str = "maze",
) -> Trajectory:
    return Trajectory(
        task=Task(environment, task),
        source=Source.POLICY,
        instruction="Find the goal.",
        turns=(Turn(text, f"Thought: {text}\nAction: go", "go", 0.0),) * turns,
        final_observation="The end.",
        success=success,
        reward=float(bool(success)),
        stop=StopReason.ERROR if success is None else StopReason.DONE,
        error="the server is gone" if success is None else "",
        round=round,
        client="west",
        tokens=TokenRecord(ids=tuple(range(20)), spans=((5, 8), (12, 16)), tokenizer="t"),
    )


def begin(folder: Path, run: RunConfig) -> RunFolder:
    return begin_run(folder, run)


def finish_phase(
    layout: RunFolder, site: str, round: int, phase: Phase, metrics: dict[str, Any], **more: Any
) -> dict[str, Any]:
    mark(layout, site, round, phase, metrics, SECONDS[phase], **more)
    return {**metrics, "seconds": SECONDS[phase]}


def adapter(run: RunConfig, *parts: str | int) -> AdapterState:
    """A small adapter, always the same for the same parts."""
    draw = numpy_generator(run.seed, "adapter", *parts).standard_normal
    meta = AdapterMeta(run.lora.rank, run.lora.alpha, ("q_proj",), "base")
    layer = "base_model.model.layers.0.q_proj"
    shapes = {f"{layer}.lora_A.weight": (run.lora.rank, 6), f"{layer}.lora_B.weight": (5, run.lora.rank)}
    return AdapterState({name: draw(shape).astype(np.float32) for name, shape in shapes.items()}, meta)


def finish_round(
    layout: RunFolder, run: RunConfig, round: int, held_out: list[Trajectory] | Mapping[str, list[Trajectory]]
) -> None:
    """Round ``round`` of every site: 4 episodes explored, of which one is lost and ``round``, at most 3, succeed.

    ``held_out`` are the episodes of the first site, or site → episodes.
    """
    clients: dict[str, Any] = {}
    isolated = run.method.strategy == "isolated"
    updates = {client.name: adapter(run, client.name, round) for client in run.clients} if round else {}
    for client in run.clients:
        done: dict[str, Any] = {}
        if round == 0:
            shown = {"episodes": 5, "successes": 5, "added": 5}
            done["demonstrate"] = finish_phase(layout, client.name, 0, Phase.DEMONSTRATE, shown)
        else:
            wins = min(round, 3)
            explored = {"episodes": 4, "errors": 1, "successes": wins, "added": 1, "dropped": {"failure": 3 - wins}}
            trained = {"examples": 5 + round, "steps": 2, "first_loss": 2.0 / round, "last_loss": 1.0 / round}
            done["explore"] = finish_phase(layout, client.name, round, Phase.EXPLORE, explored)
            done["train"] = finish_phase(layout, client.name, round, Phase.TRAIN, trained)
            done["outcome"] = "ok"
        clients[client.name] = done
    shared = round == 0 or not isolated
    keep_round(layout, round, {GLOBAL: adapter(run, "global", round)} if shared else updates, updates)
    played = held_out if isinstance(held_out, Mapping) else {run.clients[0].name: held_out}
    evaluation = {}
    for label, client in evaluators(run).items():
        if episodes := played.get(client.name):
            write_trajectories(place(layout, client.name).evaluation(round), episodes)
            finish_phase(layout, client.name, round, Phase.EVALUATE, {})
            evaluation[label] = success_rate(episodes)
    is_last = isolated and round == run.rounds and round > 0
    transfer = dict.fromkeys(clients, evaluation) if is_last else {}
    digest = "digest" if shared else ""
    record = RoundRecord(round, clients, evaluation, digest, {"aggregate": 0.5}, transfer=transfer)
    append_record(layout.server, record)


def made_run(folder: Path, *, successes: tuple[int, ...] = (0, 4, 6), tasks: int = 8, **changes: Any) -> Path:
    """A run of as many rounds as there are numbers of successes on the held-out tasks."""
    run = config(**changes)
    layout = begin(folder, run)
    for round, wins in enumerate(successes):
        held_out = [episode(f"task/{index}", success=index < wins, round=round) for index in range(tasks)]
        finish_round(layout, run, round, held_out)
    return folder


SUITE = """
name: made
description: made by hand
config:
  name: base
  rounds: 2
  clients: [{name: west, environment: maze}, {name: east, environment: wordle}]
methods:
  - {name: nothing, label: Nothing, set: {rounds: 0}}
  - {name: alone, label: Alone, set: {method: {strategy: isolated}}}
  - {name: together, label: Together, set: {}}
ablations:
  - {name: rank-2, label: Rank 2, set: {lora: {rank: 2}}}
  - {name: same, label: The same again, set: {}}
reference: together
seeds: [0, 1]
"""
#: Method → successes in each round, of 12 tasks in each environment.
WINS = {"nothing": (0,), "alone": (0, 2, 4), "together": (0, 6, 11), "rank-2": (0, 3, 10)}


def made_suite(folder: Path, *, tasks: int = 12, leave_out: Container[str] = ()) -> Path:
    """The folder of a suite all cells of which are done, but for those that are named."""
    suite = parse_suite(SUITE, "the suite of the tests")
    atomic_write(SuiteLayout(folder).suite, dump_suite(suite))
    for cell in suite.cells():
        if cell.is_shared or str(cell) in leave_out:
            continue
        layout = begin(cell.folder(folder), cell.config)
        for round, wins in enumerate(WINS[cell.method]):
            finish_round(layout, cell.config, round, _played(cell.config, wins, tasks, round))
    return folder


def _played(run: RunConfig, wins: int, tasks: int, round: int) -> dict[str, list[Trajectory]]:
    """Site → its held-out episodes; the later the seed, the more tasks are won, but for the base model."""
    extra = run.seed if wins else 0
    return {
        client.name: [
            episode(
                f"task/{index}",
                success=index < wins + extra,
                text=f"{client.environment} {index}, round {round}",
                environment=client.environment,
                round=round,
            )
            for index in range(tasks)
        ]
        for client in run.clients
    }


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, texts by element, unbalanced tags."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def episodes(self) -> Any:
        """The data of the browser of episodes."""
        [packed] = [text for text in self.texts["script"] if "use strict" not in text]
        return json.loads(gzip.decompress(base64.b64decode(packed)))
