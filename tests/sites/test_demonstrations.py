"""Episodes of a file are believed only after they succeeded here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedse.environments import make
from fedse.environments.base import Environment
from fedse.errors import ConfigError, EnvironmentFault, StorageError, StoreError
from fedse.experience.agenttraj import write_agenttraj
from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.run import run
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.federation.server import Server
from fedse.messages.report import task_digest
from fedse.progress import Phase, silent
from fedse.rollout.scripted import demonstrate
from fedse.runs.layout import RunFolder
from fedse.sites.demonstrations import Imported, Refusal, import_demonstrations
from fedse.sites.host import SiteHost
from fedse.sites.shared_model import SharedModel
from fedse.types import Source, Task, Trajectory
from helpers.toy_runs import toy_client, toy_config
from helpers.toy_sites import AskedSite, reports


def shown(count: int = 3, split: str = "train") -> list[Trajectory]:
    maze = make("maze")
    return demonstrate(maze, maze.tasks(split), count, instruction="Rules.", seed=1)


def imported(path: Path, **settings: Any) -> Imported:
    return import_demonstrations(path, make("maze"), instruction="Ours.", **settings)


def conversation(item_id: str, *replies: str) -> dict[str, Any]:
    chat = [("human", "Rules."), ("gpt", "Ok.")]
    for reply in replies:
        chat += [("human", "You are there."), ("gpt", reply)]
    return {"item_id": item_id, "conversations": [{"from": who, "loss": None, "value": text} for who, text in chat]}


def test_what_the_expert_showed_is_confirmed(tmp_path: Path) -> None:
    episodes = shown()
    write_agenttraj(tmp_path / "maze.json", episodes)
    found = imported(tmp_path / "maze.json")
    assert found.refused == ()
    assert [episode.task for episode in found.confirmed] == [episode.task for episode in episodes]
    for episode, original in zip(found.confirmed, episodes, strict=True):
        assert episode == replace(original, source=Source.IMPORTED, instruction="Ours.", seed=0)
    assert len(imported(tmp_path / "maze.json", count=2).confirmed) == 2


def test_agentgyms_own_form_and_numbers_are_understood(tmp_path: Path) -> None:
    replies = ["Thought:\nDown it is.\n\nAction:\nmove down"] * 2
    (tmp_path / "maze.json").write_text(json.dumps([conversation("maze_17", *replies)]))
    (episode,) = imported(tmp_path / "maze.json").confirmed
    assert episode.task == Task("maze", "double_t/17")
    assert [turn.response for turn in episode.turns] == ["Thought: Down it is.\nAction: move down"] * 2
    assert episode.turns[0].observation.startswith("The goal is at position 8, 6.")


def test_each_episode_that_is_not_confirmed_has_its_reason(tmp_path: Path) -> None:
    (good,) = shown(1)
    write_agenttraj(tmp_path / "good.json", [good])
    items = [
        *json.loads((tmp_path / "good.json").read_text()),
        conversation("wordle_3", "Action: scare"),
        conversation("maze_25", "Action: move up"),
        conversation("maze_17", "Action: move down"),
        conversation("maze_0", *["Action: move up"] * 20),
        conversation("maze_18", "Action: move down"),
    ]
    (tmp_path / "maze.json").write_text(json.dumps(items))
    found = imported(tmp_path / "maze.json", held_out=[task_digest(Task("maze", "double_t/18"))])
    assert [episode.task for episode in found.confirmed] == [good.task]
    assert [refused.reason for refused in found.refused] == [
        Refusal.OTHER_ENVIRONMENT,
        Refusal.UNKNOWN_TASK,
        Refusal.CUT_OFF,
        Refusal.TURN_LIMIT,
        Refusal.HELD_OUT,
    ]
    assert found.reasons == dict.fromkeys(sorted(refused.reason.value for refused in found.refused), 1)
    assert "maze_17: ends before a success: after 1 turn it says 'The goal" in str(found.refused[2])


def test_a_broken_environment_is_no_unknown_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_agenttraj(tmp_path / "maze.json", shown())
    maze = make("maze")

    def broken(_: Task) -> str:
        raise EnvironmentFault("connection refused", "start the server")

    monkeypatch.setattr(maze, "reset", broken)
    with pytest.raises(EnvironmentFault, match="connection refused"):
        import_demonstrations(tmp_path / "maze.json", maze, instruction="Ours.")


def break_once(monkeypatch: pytest.MonkeyPatch, environment: Environment, method: str) -> None:
    """The next call of a method of the environment is a fault, those after it do as before."""
    whole, calls = getattr(environment, method), iter([True])

    def once_broken(argument: Any) -> Any:
        if next(calls, False):
            raise EnvironmentFault("connection lost", "start the server")
        return whole(argument)

    monkeypatch.setattr(environment, method, once_broken)


def test_a_fault_that_passes_loses_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = shown(2)
    write_agenttraj(tmp_path / "maze.json", episodes)
    maze = make("maze")
    break_once(monkeypatch, maze, "reset")
    found = import_demonstrations(tmp_path / "maze.json", maze, instruction="Ours.")
    assert [episode.task for episode in found.confirmed] == [episode.task for episode in episodes]


def test_too_few_demonstrations_because_of_faults_are_no_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_agenttraj(tmp_path / "maze.json", shown(3))
    maze = make("maze")
    break_once(monkeypatch, maze, "step")
    with pytest.raises(EnvironmentFault, match=r": 2 episodes confirmed and 1 lost to faults"):
        import_demonstrations(tmp_path / "maze.json", maze, instruction="Ours.", count=3)
    break_once(monkeypatch, maze, "step")
    assert len(import_demonstrations(tmp_path / "maze.json", maze, instruction="Ours.").confirmed) == 2


def test_a_file_without_a_single_good_episode_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps([conversation("wordle_3", "Action: scare")]))
    with pytest.raises(
        ConfigError, match=r"of 1 episode none could be confirmed in [\s\S]*wordle_3: of another environment"
    ):
        imported(tmp_path / "bad.json")
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds no episodes"):
        imported(tmp_path / "empty.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(StoreError, match="holds no list"):
        imported(tmp_path / "other.json")
    with pytest.raises(StorageError, match="missing"):
        imported(tmp_path / "missing.json")


# In a run


@pytest.fixture(scope="module")
def shared() -> SharedModel:
    return SharedModel.load(toy_config())


def toy_file(folder: Path) -> Path:
    toy = make("toy")
    episodes = demonstrate(toy, [*toy.tasks("train"), *toy.tasks("test")], 11, instruction="Rules.", seed=3)
    write_agenttraj(folder / "toy.json", episodes)
    return folder / "toy.json"


@pytest.mark.usefixtures("toy")
def test_episodes_longer_than_the_context_are_told_and_left_out(shared: SharedModel, tmp_path: Path) -> None:
    path = toy_file(tmp_path)
    toy = make("toy")
    whole = import_demonstrations(path, toy, instruction="Rules.", renderer=shared.renderer)
    lengths = sorted(len(episode.tokens.ids) for episode in whole.confirmed if episode.tokens)
    found = import_demonstrations(path, toy, instruction="Rules.", renderer=shared.renderer, longest=lengths[-1] - 1)
    assert 0 < len(found.confirmed) < len(whole.confirmed)
    assert {refused.reason for refused in found.refused} == {Refusal.CONTEXT}
    assert f"{lengths[-1]} tokens, of {lengths[-1] - 1} at most" in str(found.refused[-1])


def digests(split: str) -> tuple[str, ...]:
    return tuple(sorted(task_digest(task) for task in make("toy").tasks(split)))


@pytest.mark.usefixtures("toy")
def test_a_site_is_seeded_from_a_file_and_learns_no_test_task(shared: SharedModel, tmp_path: Path) -> None:
    config = toy_config(toy_client("alpha", demonstrations=20, demonstrations_file=str(toy_file(tmp_path))))
    site = AskedSite(config, shared, tmp_path / "run")
    told = site.demonstrate(held_out=digests("test"))
    assert told["successes"] == 7
    with ExperienceStore(tmp_path / "run/sites/alpha/experience.sqlite") as store:
        stored = store.trajectories()
    assert {episode.source for episode in stored} == {Source.IMPORTED}
    assert all(episode.task.id.startswith("train") and episode.tokens is not None for episode in stored)
    assert all((episode.client, episode.round) == ("alpha", 0) for episode in stored)
    metrics = reports(tmp_path / "run", 0)[Phase.DEMONSTRATE].metrics
    assert metrics["file"]["refused"] == told["file"]["refused"] == {"held out for testing": 4}
    assert len(metrics["file"]["sha256"]) == 64
    assert len(site.experience(1)) == 7


@pytest.mark.usefixtures("toy")
def test_a_site_takes_as_many_as_it_asks_for(shared: SharedModel, tmp_path: Path) -> None:
    config = toy_config(toy_client("alpha", demonstrations=2, demonstrations_file=str(toy_file(tmp_path))))
    assert AskedSite(config, shared, tmp_path / "run").demonstrate()["episodes"] == 2


@pytest.mark.usefixtures("toy")
def test_an_agent_that_only_acts_is_asked_for_no_thought_and_shown_none(tmp_path: Path) -> None:
    shown, filed = toy_client("alpha"), toy_client("beta", demonstrations_file=str(toy_file(tmp_path)))
    for thoughts in (True, False):
        folder = tmp_path / f"{thoughts}"
        run(toy_config(shown, filed, rounds=1, agent={"thoughts": thoughts}), folder)
        files = sorted(folder.glob("sites/**/*.jsonl.gz"))
        episodes = [episode for file in files for episode in read_trajectories(file)]
        demonstrated = [turn for episode in episodes if episode.source is not Source.POLICY for turn in episode.turns]
        assert {episode.source for episode in episodes} == set(Source) - {Source.HUMAN}
        assert {("Thought:" in episode.instruction) for episode in episodes} == {thoughts}
        assert {turn.response.startswith("Thought:") for turn in demonstrated} == {thoughts}
        assert all("Action:" in turn.response for turn in demonstrated)


@pytest.mark.usefixtures("toy")
class TestHeldOut:
    """One adapter serves all sites, so what one is tested on no other may learn from."""

    def test_a_site_must_not_learn_from_its_test_tasks(self, shared: SharedModel, tmp_path: Path) -> None:
        config = toy_config(toy_client("alpha", test_split="train"))
        message = "'alpha' would learn from 7 of its own test tasks: split 'train' of toy overlaps"
        with pytest.raises(ConfigError, match=message):
            AskedSite(config, shared, tmp_path).check()

    def test_nor_from_those_of_other_sites(self, shared: SharedModel, tmp_path: Path) -> None:
        site = AskedSite(toy_config(), shared, tmp_path)
        site.check(held_out=digests("test"))
        message = "'alpha' would learn from 7 of the test tasks of another site: split 'train' of toy overlaps"
        with pytest.raises(ConfigError, match=message):
            site.check(held_out=digests("train"))

    def test_in_a_run_every_site_hears_of_the_others(self, tmp_path: Path) -> None:
        swapped = toy_client("beta", train_split="empty", test_split="train", options={"broken": "sometimes"})
        with pytest.raises(ConfigError, match="'alpha' would learn from 7 of the test tasks of another site"):
            run(toy_config(toy_client("alpha"), swapped), tmp_path / "run")

    def test_tasks_of_another_world_are_no_matter(self, tmp_path: Path) -> None:
        other = toy_client("beta", train_split="test", test_split="train", options={"secret": "elsewhere"})
        run(toy_config(toy_client("alpha"), other, rounds=1), tmp_path / "run")

    def test_their_test_tasks_are_not_taken_from_files(self, tmp_path: Path) -> None:
        alpha = toy_client("alpha", test_split="empty", demonstrations=20, demonstrations_file=str(toy_file(tmp_path)))
        for told, refused in (({}, {"held out for testing": 4}), ({"disclose": []}, {})):
            folder = tmp_path / str(len(refused))
            config = toy_config(alpha, toy_client("beta", **told), rounds=1)
            server = Server(
                config,
                RunFolder(folder).server,
                ProcessRuntime(SiteHost(config, RunFolder(folder), listener=silent)),
                listener=silent,
            )
            with pytest.raises(ConfigError, match="there are no tasks of toy to evaluate on"):  # alpha has none
                server.run()
            assert reports(folder, 0)[Phase.DEMONSTRATE].metrics["file"]["refused"] == refused

    def test_a_run_that_learns_nothing_may_have_any_splits(self, tmp_path: Path) -> None:
        run(toy_config(toy_client("alpha", test_split="train"), rounds=0), tmp_path / "run")
