"""Run folders made by hand, without a model, and a reader of the pages made of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.evaluation import success_rate
from fedse.federation.layout import RunLayout
from fedse.federation.run_folder import append_record
from fedse.federation.trajectory_files import write_trajectories
from fedse.progress import Phase
from fedse.settings import dump_config
from fedse.storage import atomic_write, write_json
from fedse.types import RoundRecord, Source, StopReason, Task, TokenRecord, Trajectory, Turn

SECONDS = {Phase.DEMONSTRATE: 1.0, Phase.EXPLORE: 2.0, Phase.TRAIN: 3.0, Phase.EVALUATE: 4.0}


def config(**changes: Any) -> RunConfig:
    data = {"name": "made", "rounds": 2, "clients": [{"name": "west", "environment": "maze"}]}
    return RunConfig.model_validate(data | changes)


def episode(
    task: str, *, success: bool | None, text: str = "You are here.", turns: int = 2, round: int = 0
) -> Trajectory:
    return Trajectory(
        task=Task("maze", task),
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


def begin(folder: Path, run: RunConfig) -> RunLayout:
    layout = RunLayout(folder)
    atomic_write(layout.config, dump_config(run))
    write_json(layout.versions, {"schema_version": 1, "fedse": "0.1.0", "torch": "2.13.0"})
    return layout


def finish_phase(layout: RunLayout, site: str, round: int, phase: Phase, metrics: dict[str, Any]) -> dict[str, Any]:
    marker = {"schema_version": 1, "metrics": metrics, "seconds": SECONDS[phase]}
    write_json(layout.marker(site, round, phase), marker)
    return {**metrics, "seconds": SECONDS[phase]}


def finish_round(layout: RunLayout, run: RunConfig, round: int, held_out: list[Trajectory]) -> None:
    """Round ``round`` of every site: 4 episodes explored, of which one is lost and ``round`` succeed."""
    clients: dict[str, Any] = {}
    for client in run.clients:
        done: dict[str, Any] = {}
        if round == 0:
            shown = {"episodes": 5, "successes": 5, "added": 5}
            done["demonstrate"] = finish_phase(layout, client.name, 0, Phase.DEMONSTRATE, shown)
        else:
            explored = {"episodes": 4, "errors": 1, "successes": round, "added": 1, "dropped": {"failure": 3 - round}}
            trained = {"examples": 5 + round, "steps": 2, "first_loss": 2.0 / round, "last_loss": 1.0 / round}
            done["explore"] = finish_phase(layout, client.name, round, Phase.EXPLORE, explored)
            done["train"] = finish_phase(layout, client.name, round, Phase.TRAIN, trained)
            atomic_write(layout.update(round, client.name) / "adapter_model.safetensors", b"x" * 1000)
            done["outcome"] = "ok"
        clients[client.name] = done
    atomic_write(layout.global_adapter(round) / "adapter_model.safetensors", b"x" * 1000)
    site = run.clients[0].name
    evaluation = {}
    if held_out:
        write_trajectories(layout.evaluation(site, round), held_out)
        finish_phase(layout, site, round, Phase.EVALUATE, {})
        evaluation = {"maze": success_rate(held_out)}
    append_record(layout, RoundRecord(round, clients, evaluation, "digest", {"aggregate": 0.5}))


def made_run(folder: Path, *, successes: tuple[int, ...] = (0, 4, 6), tasks: int = 8, **changes: Any) -> Path:
    """A run of as many rounds as there are numbers of successes on the held-out tasks."""
    run = config(**changes)
    layout = begin(folder, run)
    for round, wins in enumerate(successes):
        held_out = [episode(f"task/{index}", success=index < wins, round=round) for index in range(tasks)]
        finish_round(layout, run, round, held_out)
    return folder


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
        [text] = [text for text in self.texts["script"] if text.startswith("{")]
        return json.loads(text)
