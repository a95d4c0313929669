from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import toy_client, toy_config

from fedse.config import RunConfig
from fedse.errors import ConfigError, EnvironmentFault, StoreError, UnknownNameError
from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.aggregation import aggregator, registry
from fedse.learning.update import local_update
from fedse.messages.codec import META_KEYS, TENSOR_KEYS, decode_update, encode_update
from fedse.progress import Event, Phase
from fedse.runs.layout import RunLayout
from fedse.runs.phases import PhaseReport, phase_reports
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Client
from fedse.sites.task_sampling import exploration_tasks
from fedse.types import Source, StopReason, Task

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(scope="module")
def shared() -> SharedModel:
    return SharedModel.load(toy_config())


def make_client(config: RunConfig, shared: SharedModel, folder: Path, **changes: Any) -> Client:
    return Client(config, config.clients[0], shared, RunLayout(folder), **changes)


def reports(folder: Path, round: int) -> dict[Phase, PhaseReport]:
    return phase_reports(RunLayout(folder), "alpha", round)


def manifest(wire: bytes) -> dict[str, Any]:
    return json.loads(wire[12 : 12 + int.from_bytes(wire[8:12], "little")])


class TestTasks:
    TASKS = tuple(Task("toy", str(number)) for number in range(7))

    def drawn(self, rounds: int, count: int, seed: int = 0) -> list[Task]:
        return [
            task for round in range(1, rounds + 1) for task in exploration_tasks(self.TASKS, count, round, seed=seed)
        ]

    def test_all_tasks_come_once_before_any_comes_twice(self) -> None:
        drawn = self.drawn(rounds=7, count=3)
        for start in range(0, 21, 7):
            assert set(drawn[start : start + 7]) == set(self.TASKS)

    def test_each_pass_has_another_order(self) -> None:
        drawn = self.drawn(rounds=1, count=14)
        assert drawn[:7] != drawn[7:]

    def test_seeds_draw_differently_and_repeatably(self) -> None:
        assert self.drawn(2, 5, seed=1) == self.drawn(2, 5, seed=1)
        assert self.drawn(2, 5, seed=1) != self.drawn(2, 5, seed=2)

    def test_more_tasks_than_there_are_begin_again(self) -> None:
        assert Counter(Counter(self.drawn(rounds=1, count=16)).values()) == {2: 5, 3: 2}


class TestRound:
    def test_demonstrations_seed_the_store(self, shared: SharedModel, tmp_path: Path) -> None:
        client = make_client(toy_config(), shared, tmp_path)
        assert client.demonstrate().metrics == {"episodes": 3, "successes": 3, "added": 3}
        with ExperienceStore(tmp_path / "clients/alpha/experience.sqlite") as store:
            stored = store.trajectories(source=Source.EXPERT)
        assert len(stored) == 3
        for trajectory in stored:
            assert trajectory.success
            assert (trajectory.client, trajectory.round) == ("alpha", 0)
            assert trajectory.tokens is not None
            assert trajectory.task.id.startswith("train")

    def test_a_round_explores_keeps_successes_and_trains(self, shared: SharedModel, tmp_path: Path) -> None:
        client = make_client(toy_config(), shared, tmp_path)
        client.demonstrate()
        start = shared.lora.initial_state(1)
        update = client.round(1, start)
        explored = read_trajectories(tmp_path / "clients/alpha/trajectories/round-001.jsonl.gz")
        successes = [trajectory for trajectory in explored if trajectory.success]
        assert 0 < len(successes) < len(explored) == 4
        assert all((t.client, t.round, t.source) == ("alpha", 1, Source.POLICY) for t in explored)
        metrics = reports(tmp_path, 1)[Phase.EXPLORE].metrics
        assert metrics["successes"] == metrics["kept"] == len(successes)
        assert sum(metrics["dropped"].values()) == 4 - len(successes)
        assert metrics["tokens"] == sum(end - begin for t in explored for begin, end in t.tokens.spans)
        learnt = client.experience(1)
        assert [t.source for t in learnt] == [Source.EXPERT] * 3 + [Source.POLICY] * metrics["added"]
        assert reports(tmp_path, 1)[Phase.TRAIN].metrics["examples"] == len(learnt)
        assert (update.client, update.round, update.scalars) == ("alpha", 1, {})
        assert update.adapter.meta == start.meta
        assert update.adapter.digest != start.digest

    def test_a_client_starts_from_the_broadcast_adapter_and_not_from_its_own(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        digests = set()
        for name in ("once", "again"):
            client = make_client(toy_config(), shared, tmp_path / name)
            client.demonstrate()
            digests.add(client.round(1, shared.lora.initial_state(1)).adapter.digest)
            shared.lora.load(shared.lora.initial_state(2))  # what another client of the process may leave behind
        assert len(digests) == 1

    @pytest.mark.parametrize("training", [{"steps": 2}, {"steps": None, "epochs": 1.0}])
    def test_a_site_may_have_a_budget_of_its_own(
        self, training: dict[str, Any], shared: SharedModel, tmp_path: Path
    ) -> None:
        config = toy_config(toy_client("alpha", steps=3), training=training, method={"explore": False})
        client = make_client(config, shared, tmp_path)
        client.demonstrate()
        client.round(1, shared.lora.initial_state(1))
        assert reports(tmp_path, 1)[Phase.TRAIN].metrics["steps"] == 3

    def test_the_learning_rate_falls_over_the_rounds_if_it_is_to(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rates: list[float] = []

        def watched(*arguments: Any, **options: Any) -> Any:
            rates.append(arguments[2].learning_rate)
            return local_update(*arguments, **options)

        monkeypatch.setattr("fedse.sites.training.local_update", watched)
        config = toy_config(rounds=3, training={"round_schedule": "cosine"}, method={"explore": False})
        client = make_client(config, shared, tmp_path)
        client.demonstrate()
        for round in (1, 2, 3):
            client.round(round, shared.lora.initial_state(1))
        assert rates == pytest.approx([1e-2, 0.75e-2, 0.25e-2])

    def test_every_episode_has_a_seed_of_its_own(self, shared: SharedModel, tmp_path: Path) -> None:
        seeds = []
        for name in ("alpha", "beta"):
            client = make_client(toy_config(toy_client(name, demonstrations=0)), shared, tmp_path)
            for round in (1, 2):
                client.round(round, shared.lora.initial_state(1))
                seeds += [
                    t.seed
                    for t in read_trajectories(tmp_path / f"clients/{name}/trajectories/round-00{round}.jsonl.gz")
                ]
        assert len(set(seeds)) == len(seeds) == 16

    def test_completed_phases_are_not_done_again(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = make_client(toy_config(), shared, tmp_path)
        first.demonstrate()
        sent = first.round(1, shared.lora.initial_state(1))
        monkeypatch.setattr(shared.player, "play", None)
        monkeypatch.setattr("fedse.sites.training.local_update", None)
        events: list[Event] = []
        again = make_client(toy_config(), shared, tmp_path, listener=events.append)
        again.demonstrate()
        assert again.round(1, shared.lora.initial_state(1)).adapter.digest == sent.adapter.digest
        assert [(event.phase, event.finished) for event in events] == [
            (Phase.DEMONSTRATE, True),
            (Phase.EXPLORE, True),
            (Phase.TRAIN, True),
        ]

    def test_a_store_that_is_gone_is_told_and_not_replaced(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = make_client(toy_config(), shared, tmp_path)
        client.demonstrate()
        client.round(1, shared.lora.initial_state(1))
        store = tmp_path / "clients/alpha/experience.sqlite"
        store.unlink()
        monkeypatch.setattr(shared.player, "play", None)  # found before anything is played
        for work in (lambda: client.round(2, shared.lora.initial_state(1)), lambda: client.experience(1)):
            with pytest.raises(StoreError, match="there is no experience store at") as caught:
                work()
            assert "restore the file from a copy" in caught.value.mend
        assert not store.exists()

    @pytest.mark.parametrize(("own", "played"), [(None, 2), (1, 1)])
    def test_a_site_may_have_a_limit_of_turns_of_its_own(
        self, own: int | None, played: int, shared: SharedModel, tmp_path: Path
    ) -> None:
        client = make_client(toy_config(toy_client("alpha", max_turns=own)), shared, tmp_path)
        client.demonstrate()
        client.round(1, shared.lora.initial_state(1))
        client.evaluate(0, shared.lora.initial_state(1))
        for folder in ("trajectories/round-001", "evaluation/round-000"):
            episodes = read_trajectories(tmp_path / f"clients/alpha/{folder}.jsonl.gz")
            assert max(len(episode.turns) for episode in episodes) == played

    def test_a_site_may_explore_at_a_temperature_of_its_own(self, shared: SharedModel, tmp_path: Path) -> None:
        def replies(temperature: float | None) -> list[str]:
            folder = tmp_path / str(temperature)
            client = make_client(toy_config(toy_client("alpha", temperature=temperature)), shared, folder)
            client.demonstrate()
            client.round(1, shared.lora.initial_state(1))
            episodes = read_trajectories(folder / "clients/alpha/trajectories/round-001.jsonl.gz")
            return [turn.response for episode in episodes for turn in episode.turns]

        cold = replies(1e-4)
        assert len(set(cold)) < len(set(replies(None))), "the most likely reply to an observation, again and again"
        assert replies(1.0) == replies(None)

    def test_evaluation_plays_the_first_held_out_tasks(self, shared: SharedModel, tmp_path: Path) -> None:
        config = toy_config(evaluation={"tasks": 3, "decoding": "sampled", "samples": 2})
        client = make_client(config, shared, tmp_path)
        rate = client.evaluate(0, shared.lora.initial_state(1))
        played = read_trajectories(tmp_path / "clients/alpha/evaluation/round-000.jsonl.gz")
        assert [t.task.id for t in played] == ["test-0", "test-0", "test-1", "test-1", "test-2", "test-2"]
        assert len({t.seed for t in played}) == 6
        assert rate.episodes == 6
        assert rate.successes == sum(bool(t.success) for t in played)


class TestMethods:
    """A method is data: each of these differs from Fed-SE in one field."""

    def rounds(self, shared: SharedModel, folder: Path, **method: Any) -> tuple[Client, list[Any]]:
        config = toy_config(toy_client("alpha", episodes_per_round=7), method=method)
        client = make_client(config, shared, folder)
        client.demonstrate()
        return client, [client.round(round, shared.lora.initial_state(1)) for round in (1, 2)]

    def test_history_accumulates(self, shared: SharedModel, tmp_path: Path) -> None:
        client, _ = self.rounds(shared, tmp_path)
        first, second = client.experience(1), client.experience(2)
        assert second[: len(first)] == first
        assert {t.round for t in second} == {0, 1, 2}

    def test_an_earlier_round_does_not_see_later_experience(self, shared: SharedModel, tmp_path: Path) -> None:
        client, _ = self.rounds(shared, tmp_path)
        assert {t.round for t in client.experience(1)} == {0, 1}

    def test_without_history_a_round_learns_from_itself(self, shared: SharedModel, tmp_path: Path) -> None:
        client, _ = self.rounds(shared, tmp_path, history=False)
        assert {t.round for t in client.experience(1)} == {0, 1}
        assert {t.round for t in client.experience(2)} == {2}

    def test_without_history_a_success_found_before_counts_again(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fedse.sites.site.derive_seed", lambda *parts: 7)  # every round plays the same
        monkeypatch.setattr("fedse.sites.site.exploration_tasks", lambda tasks, count, round, seed: list(tasks[:count]))
        client, _ = self.rounds(shared, tmp_path, history=False)
        assert reports(tmp_path, 1)[Phase.EXPLORE].metrics["kept"] > 0
        assert reports(tmp_path, 2)[Phase.EXPLORE].metrics["added"] == 0
        assert len(client.experience(2)) == reports(tmp_path, 1)[Phase.EXPLORE].metrics["added"]

    def test_without_exploration_demonstrations_are_all(self, shared: SharedModel, tmp_path: Path) -> None:
        for history in (True, False):
            client, _ = self.rounds(shared, tmp_path / str(history), explore=False, history=history)
            assert len(client.experience(1)) == 3
            assert client.experience(1) == client.experience(2)
            assert Phase.EXPLORE not in reports(tmp_path, 1)

    @pytest.mark.parametrize("history", [True, False])
    def test_warm_up_rounds_train_on_demonstrations_alone(
        self, shared: SharedModel, tmp_path: Path, history: bool
    ) -> None:
        client, _ = self.rounds(shared, tmp_path, warmup_rounds=1, history=history)
        assert Phase.EXPLORE not in reports(tmp_path, 1)
        assert Phase.EXPLORE in reports(tmp_path, 2)
        assert {t.round for t in client.experience(1)} == {0}
        assert {t.round for t in client.experience(2)} == ({0, 2} if history else {2})

    def test_without_filter_failures_are_learnt_too(self, shared: SharedModel, tmp_path: Path) -> None:
        client, _ = self.rounds(shared, tmp_path, filter="none")
        metrics = reports(tmp_path, 1)[Phase.EXPLORE].metrics
        assert metrics["kept"] == 7 > metrics["successes"]
        assert not all(t.success for t in client.experience(1))

    def test_the_weighted_mean_gets_its_examples(self, shared: SharedModel, tmp_path: Path) -> None:
        client, updates = self.rounds(shared, tmp_path, aggregator="weighted_mean")
        assert [update.scalars for update in updates] == [
            {"examples": float(len(client.experience(round)))} for round in (1, 2)
        ]

    def test_with_nothing_to_learn_the_adapter_comes_back_unchanged(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("toy_environment.succeeds", lambda action, number: False)
        client = make_client(toy_config(toy_client("alpha", demonstrations=0)), shared, tmp_path)
        start = shared.lora.initial_state(1)
        assert client.round(1, start).adapter.digest == start.digest
        assert reports(tmp_path, 1)[Phase.TRAIN].metrics == {"examples": 0, "steps": 0}


class TestFaults:
    def test_some_faults_are_counted_and_learnt_by_no_filter(self, shared: SharedModel, tmp_path: Path) -> None:
        for choice in ("success", "none"):
            broken = toy_client("alpha", demonstrations=0, episodes_per_round=7, options={"broken": "sometimes"})
            client = make_client(toy_config(broken, method={"filter": choice}), shared, tmp_path / choice)
            client.round(1, shared.lora.initial_state(1))
            metrics = reports(tmp_path / choice, 1)[Phase.EXPLORE].metrics
            assert metrics["errors"] == metrics["dropped"]["error"] == 4
            assert all(t.stop is not StopReason.ERROR for t in client.experience(1))

    def test_a_broken_environment_stops_with_its_cause_and_loses_nothing(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        whole = make_client(toy_config(), shared, tmp_path)
        whole.demonstrate()
        files = sorted(tmp_path.rglob("*"))
        broken = toy_client("alpha", options={"broken": "always"})
        client = make_client(toy_config(broken), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match=r"all 4 episodes were lost .* the toy is broken on") as caught:
            client.round(1, shared.lora.initial_state(1))
        assert "fedse env check" in caught.value.mend
        assert sorted(tmp_path.rglob("*")) == files
        whole.round(1, shared.lora.initial_state(1))  # mended, it goes on

    def test_a_broken_environment_cannot_demonstrate_or_be_evaluated(self, shared: SharedModel, tmp_path: Path) -> None:
        client = make_client(toy_config(toy_client("alpha", options={"broken": "always"})), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match="the toy is broken on"):
            client.demonstrate()
        with pytest.raises(EnvironmentFault, match="the toy is broken on"):
            client.evaluate(0, shared.lora.initial_state(1))

    def test_an_expert_that_fails_is_named(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("toy_environment.ToyExpert.act", lambda self, observation: ("", "wrong"))
        monkeypatch.setattr("toy_environment.succeeds", lambda action, number: False)
        client = make_client(toy_config(), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match="the expert of toy made 0 of 3 demonstrations") as caught:
            client.demonstrate()
        assert "fedse env check toy" in caught.value.mend
        assert reports(tmp_path, 0) == {}

    @pytest.mark.parametrize(
        ("client", "changes", "error", "message"),
        [
            (toy_client("alpha", train_split="trian"), {}, UnknownNameError, "trian"),
            (toy_client("alpha", train_split="empty"), {}, ConfigError, "split 'empty' of toy has no tasks"),
            (toy_client("alpha", environment="toi"), {}, UnknownNameError, "toi"),
            (toy_client("alpha", options={"secert": "x"}), {}, ConfigError, "secert"),
            (toy_client("alpha"), {"aggregator": "meen"}, UnknownNameError, "meen"),
            (toy_client("alpha", demonstrations=0), {"explore": False}, ConfigError, "nothing to learn from"),
            (toy_client("alpha", demonstrations=0, episodes_per_round=0), {}, ConfigError, "nothing to learn from"),
        ],
    )
    def test_a_configuration_that_cannot_work_is_refused_at_once(
        self,
        shared: SharedModel,
        tmp_path: Path,
        client: dict[str, Any],
        changes: dict[str, Any],
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            make_client(toy_config(client, method=changes), shared, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_aggregator_cannot_ask_for_more_than_clients_tell(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        aggregator("curious", citation="", needs=("examples", "trajectories"))(lambda global_, updates: global_)
        with pytest.raises(ConfigError, match="needs trajectories of each client; clients can tell: examples"):
            make_client(toy_config(method={"aggregator": "curious"}), shared, tmp_path)


class TestPrivacy:
    """What leaves a site is the adapter and the declared scalars, and nothing else."""

    CANARY = "canary-7f3a9c"

    def wire(self, shared: SharedModel, folder: Path, episodes: int, **method: Any) -> bytes:
        site = toy_client("alpha", options={"secret": self.CANARY}, episodes_per_round=episodes)
        client = make_client(toy_config(site, method=method), shared, folder)
        client.demonstrate()
        update = client.round(1, shared.lora.initial_state(1))
        stored = read_trajectories(folder / "clients/alpha/trajectories/round-001.jsonl.gz")
        assert len(stored) == episodes  # the canaries were indeed in all that the site saw and kept
        for trajectory in [*stored, *client.experience(1)]:
            assert self.CANARY in trajectory.task.id
            assert self.CANARY in trajectory.instruction
            assert self.CANARY in trajectory.turns[0].observation
        return encode_update(update)

    def test_no_text_and_no_task_leaves_the_site(self, shared: SharedModel, tmp_path: Path) -> None:
        wire = self.wire(shared, tmp_path, 4)
        tokens = shared.renderer.reply(self.CANARY)[:-1]
        for dtype in (np.uint8, np.int16, np.int32, np.int64, np.float32):
            assert np.array(tokens).astype(dtype).tobytes() not in wire
        assert self.CANARY.encode() not in wire
        for word in (b"toy", b"train-", b"test-", b"Say something", b"yes", b"expert"):
            assert word not in wire

    def test_the_manifest_has_exactly_the_allowed_keys(self, shared: SharedModel, tmp_path: Path) -> None:
        found = manifest(self.wire(shared, tmp_path, 4))
        assert set(found) == {"client", "dtype", "meta", "round", "scalars", "tensors"}
        assert set(found["meta"]) == META_KEYS
        assert all(set(entry) == TENSOR_KEYS for entry in found["tensors"])
        assert found["scalars"] == {}

    def test_the_number_of_episodes_shows_nowhere(self, shared: SharedModel, tmp_path: Path) -> None:
        few, many = (self.wire(shared, tmp_path / str(episodes), episodes) for episodes in (3, 6))
        assert len(few) == len(many)
        assert manifest(few) == manifest(many)  # so all that differs are the weights
        assert decode_update(few).adapter.digest != decode_update(many).adapter.digest

    def test_only_an_aggregator_that_declares_it_learns_the_number_of_examples(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        found = manifest(self.wire(shared, tmp_path, 4, aggregator="weighted_mean"))
        assert set(found["scalars"]) == {"examples"}
