"""A site by itself, asked as a server asks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.adapters.codec import unpack
from fedse.adapters.files import load_adapter
from fedse.adapters.state import SUFFIX_A, AdapterState
from fedse.environments import make
from fedse.errors import (
    AdapterError,
    ConfigError,
    DivergenceError,
    EnvironmentFault,
    MessageError,
    RunError,
    StoreError,
    UnknownNameError,
)
from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories
from fedse.learning.update import local_update
from fedse.messages import Diverged, Done, Instruction, PhaseSummary, Purpose, Refused, Reply, TaskSummary
from fedse.messages.report import task_digest, tasks_digest
from fedse.progress import Event, Phase, silent
from fedse.runs.layout import RunFolder
from fedse.sites.host import SiteHost
from fedse.sites.shared_model import SharedModel
from fedse.sites.task_sampling import exploration_tasks
from fedse.types import Source, StopReason, Task
from helpers.toy_runs import toy_client, toy_config
from helpers.toy_sites import AskedSite, reports

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(scope="module")
def shared() -> SharedModel:
    return SharedModel.load(toy_config())


class TestTaskSampling:
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
        client = AskedSite(toy_config(), shared, tmp_path)
        assert client.demonstrate() == {"episodes": 3, "successes": 3, "added": 3}
        with ExperienceStore(tmp_path / "sites/alpha/experience.sqlite") as store:
            stored = store.trajectories(source=Source.EXPERT)
        assert len(stored) == 3
        for trajectory in stored:
            assert trajectory.success
            assert (trajectory.client, trajectory.round) == ("alpha", 0)
            assert trajectory.tokens is not None
            assert trajectory.task.id.startswith("train")

    def test_a_round_explores_keeps_successes_and_trains(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        client.demonstrate()
        start = shared.lora.initial_state(1)
        update = client.round(1, start)
        explored = read_trajectories(tmp_path / "sites/alpha/trajectories/round-001.jsonl.gz")
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
        assert update.scalars == {}
        assert update.adapter.meta == start.meta
        assert update.adapter.digest != start.digest

    def test_a_client_starts_from_the_broadcast_adapter_and_not_from_its_own(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        digests = set()
        for name in ("once", "again"):
            client = AskedSite(toy_config(), shared, tmp_path / name)
            client.demonstrate()
            digests.add(client.round(1, shared.lora.initial_state(1)).adapter.digest)
            shared.lora.load(shared.lora.initial_state(2))  # what another client of the process may leave behind
        assert len(digests) == 1

    @pytest.mark.parametrize("training", [{"steps": 2}, {"steps": None, "epochs": 1.0}])
    def test_a_site_may_have_a_budget_of_its_own(
        self, training: dict[str, Any], shared: SharedModel, tmp_path: Path
    ) -> None:
        config = toy_config(toy_client("alpha", steps=3), training=training, method={"explore": False})
        client = AskedSite(config, shared, tmp_path)
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
        client = AskedSite(config, shared, tmp_path)
        client.demonstrate()
        for round in (1, 2, 3):
            client.round(round, shared.lora.initial_state(1))
        assert rates == pytest.approx([1e-2, 0.75e-2, 0.25e-2])

    def test_every_episode_has_a_seed_of_its_own(self, shared: SharedModel, tmp_path: Path) -> None:
        seeds = []
        for name in ("alpha", "beta"):
            client = AskedSite(toy_config(toy_client(name, demonstrations=0)), shared, tmp_path)
            for round in (1, 2):
                client.round(round, shared.lora.initial_state(1))
                seeds += [
                    t.seed for t in read_trajectories(tmp_path / f"sites/{name}/trajectories/round-00{round}.jsonl.gz")
                ]
        assert len(set(seeds)) == len(seeds) == 16

    def test_completed_phases_are_not_done_again(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = AskedSite(toy_config(), shared, tmp_path)
        first.demonstrate()
        sent = first.round(1, shared.lora.initial_state(1))
        monkeypatch.setattr(shared.player, "play", None)
        monkeypatch.setattr("fedse.sites.training.local_update", None)
        events: list[Event] = []
        again = AskedSite(toy_config(), shared, tmp_path, listener=events.append)
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
        client = AskedSite(toy_config(), shared, tmp_path)
        client.demonstrate()
        client.round(1, shared.lora.initial_state(1))
        store = tmp_path / "sites/alpha/experience.sqlite"
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
        client = AskedSite(toy_config(toy_client("alpha", max_turns=own)), shared, tmp_path)
        client.demonstrate()
        client.round(1, shared.lora.initial_state(1))
        client.evaluate(0, shared.lora.initial_state(1))
        for folder in ("trajectories/round-001", "evaluation/round-000"):
            episodes = read_trajectories(tmp_path / f"sites/alpha/{folder}.jsonl.gz")
            assert max(len(episode.turns) for episode in episodes) == played

    def test_a_site_may_explore_at_a_temperature_of_its_own(self, shared: SharedModel, tmp_path: Path) -> None:
        def replies(temperature: float | None) -> list[str]:
            folder = tmp_path / str(temperature)
            client = AskedSite(toy_config(toy_client("alpha", temperature=temperature)), shared, folder)
            client.demonstrate()
            client.round(1, shared.lora.initial_state(1))
            episodes = read_trajectories(folder / "sites/alpha/trajectories/round-001.jsonl.gz")
            return [turn.response for episode in episodes for turn in episode.turns]

        cold = replies(1e-4)
        assert len(set(cold)) < len(set(replies(None))), "the most likely reply to an observation, again and again"
        assert replies(1.0) == replies(None)

    def test_evaluation_plays_the_first_held_out_tasks(self, shared: SharedModel, tmp_path: Path) -> None:
        config = toy_config(evaluation={"tasks": 3, "decoding": "sampled", "samples": 2})
        client = AskedSite(config, shared, tmp_path)
        rate = client.evaluate(0, shared.lora.initial_state(1))
        played = read_trajectories(tmp_path / "sites/alpha/evaluation/round-000.jsonl.gz")
        assert [t.task.id for t in played] == ["test-0", "test-0", "test-1", "test-1", "test-2", "test-2"]
        assert len({t.seed for t in played}) == 6
        assert rate.episodes == 6
        assert rate.successes == sum(bool(t.success) for t in played)


class TestMethods:
    """A method is data: each of these differs from Fed-SE in one field."""

    def rounds(self, shared: SharedModel, folder: Path, **method: Any) -> tuple[AskedSite, list[Any]]:
        config = toy_config(toy_client("alpha", episodes_per_round=7), method=method)
        client = AskedSite(config, shared, folder)
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
        # Every round plays the same.
        monkeypatch.setattr("fedse.sites.environment.derive_seed", lambda *parts: 7)
        monkeypatch.setattr(
            "fedse.sites.environment.exploration_tasks", lambda tasks, count, round, **_: list(tasks[:count])
        )
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

    def test_a_strategy_gets_the_scalars_that_it_asks_for(self, shared: SharedModel, tmp_path: Path) -> None:
        client, _ = self.rounds(shared, tmp_path)
        for round in (1, 2):
            update = client.round(round, shared.lora.initial_state(1), needs=("examples",))
            assert update.scalars == {"examples": float(len(client.experience(round)))}
        with pytest.raises(UnknownNameError, match="did you mean examples"):
            client.round(2, shared.lora.initial_state(1), needs=("exampels",))

    def test_with_nothing_to_learn_the_adapter_comes_back_unchanged(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helpers.toy_environment.succeeds", lambda action, number: False)
        client = AskedSite(toy_config(toy_client("alpha", demonstrations=0)), shared, tmp_path)
        start = shared.lora.initial_state(1)
        assert client.round(1, start).adapter.digest == start.digest
        assert reports(tmp_path, 1)[Phase.TRAIN].metrics == {"examples": 0, "steps": 0}


class TestFaults:
    def test_some_faults_are_counted_and_learnt_by_no_filter(self, shared: SharedModel, tmp_path: Path) -> None:
        for choice in ("success", "none"):
            broken = toy_client("alpha", demonstrations=0, episodes_per_round=7, options={"broken": "sometimes"})
            client = AskedSite(toy_config(broken, method={"filter": choice}), shared, tmp_path / choice)
            client.round(1, shared.lora.initial_state(1))
            metrics = reports(tmp_path / choice, 1)[Phase.EXPLORE].metrics
            assert metrics["errors"] == metrics["dropped"]["error"] == 4
            assert all(t.stop is not StopReason.ERROR for t in client.experience(1))

    def test_a_broken_environment_stops_with_its_cause_and_loses_nothing(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        whole = AskedSite(toy_config(), shared, tmp_path)
        whole.demonstrate()
        files = sorted(tmp_path.rglob("*"))
        broken = toy_client("alpha", options={"broken": "always"})
        client = AskedSite(toy_config(broken), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match=r"all 4 episodes were lost .* the toy is broken on") as caught:
            client.round(1, shared.lora.initial_state(1))
        assert "fedse env check" in caught.value.mend
        assert sorted(tmp_path.rglob("*")) == files
        whole.round(1, shared.lora.initial_state(1))  # mended, it goes on

    def test_a_broken_environment_cannot_demonstrate_or_be_evaluated(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(toy_client("alpha", options={"broken": "always"})), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match="the toy is broken on"):
            client.demonstrate()
        with pytest.raises(EnvironmentFault, match="the toy is broken on"):
            client.evaluate(0, shared.lora.initial_state(1))

    def test_an_expert_that_fails_is_named(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("helpers.toy_environment.ToyExpert.act", lambda self, observation: ("", "wrong"))
        monkeypatch.setattr("helpers.toy_environment.succeeds", lambda action, number: False)
        client = AskedSite(toy_config(), shared, tmp_path)
        with pytest.raises(EnvironmentFault, match="the expert of toy made 0 of 3 demonstrations") as caught:
            client.demonstrate()
        assert "fedse env check toy" in caught.value.mend
        assert reports(tmp_path, 0) == {}

    @pytest.mark.parametrize(
        ("client", "changes", "error", "message"),
        [
            (toy_client("alpha", train_split="trian"), {}, UnknownNameError, "trian"),
            (toy_client("alpha", train_split="empty"), {}, ConfigError, "split 'empty' of toy has no tasks"),
            (toy_client("alpha", test_split="tset"), {}, UnknownNameError, "tset"),
            (toy_client("alpha", disclose=["seconds", "epizodes"]), {}, ConfigError, "did you mean episodes"),
            (toy_client("alpha", environment="toi"), {}, UnknownNameError, "toi"),
            (toy_client("alpha", options={"secert": "x"}), {}, ConfigError, "secert"),
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
            AskedSite(toy_config(client, method=changes), shared, tmp_path).check()
        assert list(tmp_path.iterdir()) == []


class TestAnswers:
    """What leaves a site is an answer and the report, and of the report only what it discloses."""

    CANARY = "canary-7f3a9c"

    def asked(self, shared: SharedModel, folder: Path, episodes: int = 4, **changes: Any) -> tuple[AskedSite, Reply]:
        site = toy_client("alpha", options={"secret": self.CANARY}, episodes_per_round=episodes, **changes)
        client = AskedSite(toy_config(site), shared, folder)
        client.demonstrate()
        reply = client.ask(Purpose.ROUND, 1, adapter=shared.lora.initial_state(1))
        stored = read_trajectories(folder / "sites/alpha/trajectories/round-001.jsonl.gz")
        assert len(stored) == episodes  # the canaries were indeed in all that the site saw and kept
        for trajectory in [*stored, *client.experience(1)]:
            assert self.CANARY in trajectory.task.id
            assert self.CANARY in trajectory.instruction
            assert self.CANARY in trajectory.turns[0].observation
        return client, reply

    def test_no_text_and_no_task_leaves_the_site(self, shared: SharedModel, tmp_path: Path) -> None:
        _, reply = self.asked(shared, tmp_path)
        wire = reply.encode()
        tokens = shared.renderer.reply(self.CANARY)[:-1]
        for dtype in (np.uint8, np.int16, np.int32, np.int64, np.float32):
            assert np.array(tokens).astype(dtype).tobytes() not in wire
        assert self.CANARY.encode() not in wire
        for word in (b"toy", b"train-", b"test-", b"Say something", b"yes", b"expert"):
            assert word not in wire

    def test_the_message_has_exactly_the_declared_keys(self, shared: SharedModel, tmp_path: Path) -> None:
        _, reply = self.asked(shared, tmp_path)
        body, arrays = unpack(reply.encode())
        assert set(body) == {"answer", "environment", "owner", "purpose", "report", "round", "run", "site"}
        assert set(body["answer"]) == {"adapter", "kind", "scalars", "tensors"}
        assert set(body["report"]) == {"phases", "tasks"}
        phases = body["report"]["phases"]["alpha"]
        assert set(phases) == {"explore", "train"}
        assert all(set(told) == set(PhaseSummary.model_fields) for told in phases.values())
        assert set(arrays) == {f"0/{name}" for name in shared.lora.names}

    def test_a_site_that_discloses_nothing_hides_how_much_it_played(self, shared: SharedModel, tmp_path: Path) -> None:
        few, many = (
            self.asked(shared, tmp_path / str(episodes), episodes, disclose=[])[1].encode() for episodes in (3, 6)
        )
        assert len(few) == len(many)
        (few_body, few_arrays), (many_body, many_arrays) = unpack(few), unpack(many)
        assert few_body == many_body  # so all that differs are the weights
        assert any((few_arrays[name] != many_arrays[name]).any() for name in few_arrays)

    def test_a_site_may_keep_its_rates_back(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(toy_client("alpha", disclose=["seconds"])), shared, tmp_path)
        reply = client.ask(Purpose.EVALUATE, 0, adapter=shared.lora.initial_state(1), environment="alpha")
        assert reply.answer == Done()
        assert reports(tmp_path, 0)[Phase.EVALUATE].metrics["episodes"] == 4, "its own folder has them"

    def test_tasks_are_told_as_digests(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        told = client.ask(Purpose.JOIN).report.tasks["alpha"]
        toy = make("toy")
        assert set(told.held_out or ()) == {task_digest(task) for task in toy.tasks("test")}
        assert told.training == tasks_digest(toy.tasks("train"))
        silent = AskedSite(toy_config(toy_client("alpha", disclose=[])), shared, tmp_path).ask(Purpose.JOIN)
        assert silent.report.tasks == {"alpha": TaskSummary()}

    def test_the_initial_adapter_is_that_of_the_run_whatever_is_loaded(
        self, shared: SharedModel, tmp_path: Path
    ) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        answers = [client.ask(Purpose.INITIAL).answer]
        shared.lora.load(shared.lora.initial_state(9))
        answers.append(client.ask(Purpose.INITIAL).answer)
        assert {answer.adapter.digest for answer in answers} == {shared.initial_adapter(toy_config()).digest}  # type: ignore[union-attr]

    def test_an_environment_that_is_not_here_is_told(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        with pytest.raises(UnknownNameError, match="did you mean alpha"):
            client.evaluate(0, shared.lora.initial_state(1), environment="alhpa")

    def test_an_instruction_without_an_adapter_is_refused(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        for purpose in (Purpose.ROUND, Purpose.EVALUATE):
            with pytest.raises(RunError, match="came without an adapter"):
                client.ask(purpose, 1, environment="alpha")

    def test_a_round_that_the_run_does_not_have_is_refused(self, shared: SharedModel, tmp_path: Path) -> None:
        """A site agrees to so many rounds; and folders of rounds are looked through one by one."""
        client = AskedSite(toy_config(), shared, tmp_path)
        sent = shared.lora.initial_state(1)
        for purpose, number in ((Purpose.ROUND, 0), (Purpose.ROUND, 3), (Purpose.EVALUATE, 10**12)):
            with pytest.raises(RunError, match=f"asked for round {number} of a run that has 2"):
                client.ask(purpose, number, adapter=sent, environment="alpha")


class TestHost:
    def host(self, folder: Path, **changes: Any) -> SiteHost:
        broken = toy_client("alpha", demonstrations=0, options={"broken": "always"}, **changes)
        config = toy_config(broken, toy_client("beta"))
        return SiteHost(config, RunFolder(folder), listener=silent)

    def test_an_error_becomes_a_refusal_and_stays_at_the_site(self, tmp_path: Path, shared: SharedModel) -> None:
        host = self.host(tmp_path)
        asked = Instruction(site="alpha", purpose=Purpose.ROUND, round=1, adapter=shared.initial_adapter(toy_config()))
        reply = Reply.decode(host.answer("alpha", asked.encode()))
        assert (reply.site, reply.purpose, reply.round) == ("alpha", Purpose.ROUND, 1)
        assert reply.answer == Refused(reason="EnvironmentFault")
        assert "the toy is broken on" in str(host.failure)
        joined = Reply.decode(host.answer("beta", Instruction(site="beta", purpose=Purpose.JOIN).encode()))
        assert joined.answer == Done()
        assert host.failure is None

    def test_its_words_leave_only_if_the_site_discloses_them(self, tmp_path: Path, shared: SharedModel) -> None:
        host = self.host(tmp_path, disclose=["errors_in_words"])
        asked = Instruction(site="alpha", purpose=Purpose.ROUND, round=1, adapter=shared.initial_adapter(toy_config()))
        answer = Reply.decode(host.answer("alpha", asked.encode())).answer
        assert isinstance(answer, Refused)
        assert "the toy is broken on" in answer.words

    def test_bytes_that_are_no_instruction_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(MessageError):
            self.host(tmp_path).answer("alpha", b"garbage")


class TestOwnPart:
    """A site that is sent a part of an adapter has the rest for itself."""

    def part(self, adapter: AdapterState) -> AdapterState:
        shared = {name: array for name, array in adapter.tensors.items() if name.endswith(SUFFIX_A)}
        return AdapterState(shared, adapter.meta)

    def trained(self, folder: Path, number: int) -> AdapterState:
        return load_adapter(RunFolder(folder).site("alpha").adapter(number))

    def test_it_sends_only_what_it_was_sent(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        client.demonstrate()
        sent = self.part(shared.initial_adapter(toy_config()))
        update = client.round(1, sent)
        assert update.adapter.tensors.keys() == sent.tensors.keys()
        whole = self.trained(tmp_path, 1)
        assert whole.tensors.keys() == shared.lora.names
        assert all(whole.tensors[name].any() for name in whole.tensors.keys() - sent.tensors.keys())

    def test_it_goes_on_from_its_own_also_after_a_round_that_diverged(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        starts: list[AdapterState] = []
        failing: set[int] = {2, 3}

        def watched(lora: Any, *arguments: Any, **options: Any) -> Any:
            starts.append(lora.state())
            if len(starts) in failing:
                raise DivergenceError("the loss is nan")
            return local_update(lora, *arguments, **options)

        monkeypatch.setattr("fedse.sites.training.local_update", watched)
        client = AskedSite(toy_config(method={"explore": False}, rounds=5), shared, tmp_path)
        client.demonstrate()
        sent = self.part(shared.lora.initial_state(5))
        b_name = next(name for name in shared.lora.names if name not in sent.tensors)
        trained = {}
        for number in (1, 2, 3, 4, 5):
            reply = client.ask(Purpose.ROUND, number, adapter=sent)
            assert isinstance(reply.answer, Diverged) == (number in failing)
            if number not in failing:
                trained[number] = self.trained(tmp_path, number)
        for number, source in ((2, 1), (3, 1), (4, 1), (5, 4)):
            own = trained[source]
            start = starts[number - 1]
            assert start.tensors[b_name].tobytes() == own.tensors[b_name].tobytes(), f"round {number}"
            assert all(start.tensors[name].tobytes() == array.tobytes() for name, array in sent.tensors.items())

    def test_it_keeps_what_a_round_begins_from_until_the_round_is_done(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A site that is killed between its adapter and the marker trains again, and from the same."""
        client = AskedSite(toy_config(method={"explore": False}, rounds=5), shared, tmp_path)
        client.demonstrate()
        sent = self.part(shared.lora.initial_state(5))
        client.round(1, sent)
        with monkeypatch.context() as patch:
            patch.setattr("fedse.sites.training.local_update", _diverging)
            assert isinstance(client.ask(Purpose.ROUND, 2, adapter=sent).answer, Diverged)
        expected = client.round(3, sent).adapter.digest
        whole = self.trained(tmp_path, 3).digest
        RunFolder(tmp_path).site("alpha").marker(3, Phase.TRAIN).unlink()
        assert client.round(3, sent).adapter.digest == expected
        assert self.trained(tmp_path, 3).digest == whole

    def test_it_plays_held_out_tasks_with_its_own(
        self, shared: SharedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded: list[AdapterState] = []
        load = shared.lora.load
        client = AskedSite(toy_config(), shared, tmp_path)
        client.demonstrate()
        sent = self.part(shared.lora.initial_state(5))
        client.round(1, sent)
        monkeypatch.setattr(shared.lora, "load", lambda state: (loaded.append(state), load(state)))
        client.evaluate(1, sent)
        own = self.trained(tmp_path, 1)
        assert loaded[-1].digest == AdapterState({**own.tensors, **sent.tensors}, own.meta).digest

    def test_a_part_of_another_rank_does_not_fit(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(), shared, tmp_path)
        sent = self.part(shared.lora.initial_state(5))
        other = AdapterState(sent.tensors, replace(sent.meta, rank=4))
        with pytest.raises(AdapterError, match="was sent a part of an adapter of rank 4, but has one of rank 2"):
            client.round(1, other)

    def test_the_last_two_adapters_are_kept(self, shared: SharedModel, tmp_path: Path) -> None:
        client = AskedSite(toy_config(method={"explore": False}, rounds=5), shared, tmp_path)
        client.demonstrate()
        for number in (1, 2, 3, 4):
            client.round(number, shared.lora.initial_state(1))
        kept = sorted(path.name for path in (tmp_path / "sites/alpha/adapters").iterdir())
        assert kept == ["003", "004"]


def _diverging(*_: Any, **__: Any) -> Any:
    raise DivergenceError("the loss is nan")
