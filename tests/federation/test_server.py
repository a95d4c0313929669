"""The server alone: sites are stood in for by the bytes that they send."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, RunError, UpdateRejectedError
from fedse.federation.server import Server
from fedse.federation.strategies import GLOBAL, State, Strategy, register, registry
from fedse.federation.strategies.averaging import average, server_step
from fedse.messages import (
    Diverged,
    Done,
    Instruction,
    PhaseSummary,
    Purpose,
    Rates,
    Refused,
    SiteReport,
    TaskSummary,
    Update,
    Work,
)
from fedse.messages.report import task_digest
from fedse.progress import Event, Phase, silent
from fedse.runs.layout import ServerFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import load_state
from fedse.types import RoundRecord, Task
from helpers.runtimes import Answer, ScriptedSites, replied
from helpers.small_adapters import A_NAME, META, random_state, update, with_tensor
from helpers.toy_runs import toy_client, toy_config

BEFORE = random_state(0)
SITES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


def sends(answer: Any, **fields: Any) -> Callable[[Instruction], bytes]:
    return lambda instruction: replied(instruction, answer, **fields)


def sends_update(seed: int, **scalars: float) -> Callable[[Instruction], bytes]:
    return sends(update(seed, **scalars))


def serve(
    folder: Path, *rounds: Mapping[str, Answer], sites: tuple[str, ...] = SITES, **method: Any
) -> tuple[ScriptedSites, tuple[RoundRecord, ...]]:
    """A run whose sites send these answers in its rounds: the runtime, and the records."""
    runtime = ScriptedSites(BEFORE, dict(enumerate(rounds, start=1)))
    config = toy_config(*map(toy_client, sites), rounds=len(rounds), method=method)
    Server(config, ServerFolder(folder), runtime, listener=silent).run()
    return runtime, read_records(ServerFolder(folder))


def outcomes(record: RoundRecord) -> dict[str, str]:
    return {site: told["outcome"] for site, told in record.clients.items()}


def state(folder: Path, number: int) -> State:
    return load_state(ServerFolder(folder), number)


class TestRounds:
    def test_a_round_takes_the_mean_and_counts_every_site(self, tmp_path: Path) -> None:
        _, records = serve(tmp_path, {"a": sends_update(1), "b": sends_update(2), "c": sends_update(3)})
        mean = average((1.0, random_state(seed)) for seed in (1, 2, 3))
        assert records[1].adapter == state(tmp_path, 1).adapter().digest == mean.digest
        assert outcomes(records[1]) == {"a": "ok", "b": "ok", "c": "ok"}
        assert records[0].adapter == BEFORE.digest
        assert all("outcome" not in told for told in records[0].clients.values())

    def test_the_next_round_starts_from_the_last(self, tmp_path: Path) -> None:
        options = {"server_lr": 0.5}
        runtime, _ = serve(tmp_path, {"a": sends_update(1)}, {"a": sends_update(2)}, sites=("a",), options=options)
        first = server_step(BEFORE, random_state(1), 0.5)
        assert state(tmp_path, 2).adapter().digest == server_step(first, random_state(2), 0.5).digest
        sent = [asked.adapter for asked in runtime.asked if asked.purpose is Purpose.ROUND]
        assert [adapter.digest for adapter in sent if adapter] == [BEFORE.digest, first.digest]

    def test_replies_are_kept_as_they_came(self, tmp_path: Path) -> None:
        runtime, _ = serve(tmp_path, {"a": sends_update(1), "b": sends(Diverged()), "c": b"garbage"})
        asked = {asked.site: asked for asked in runtime.asked if asked.purpose is Purpose.ROUND}
        kept = {path.name: path.read_bytes() for path in (ServerFolder(tmp_path).round(1) / "replies").iterdir()}
        assert kept == {"a": replied(asked["a"], update(1)), "b": replied(asked["b"], Diverged())}

    def test_what_sites_tell_is_recorded_as_they_told_it(self, tmp_path: Path) -> None:
        explored = PhaseSummary(episodes=4, kept=1, dropped={"failure": 3}, seconds=2.5)
        report = SiteReport(phases={"a": {Phase.EXPLORE: explored, Phase.TRAIN: PhaseSummary(seconds=1.0)}})
        _, records = serve(tmp_path, {"a": sends(update(1), report=report)}, sites=("a",))
        assert records[1].clients == {
            "a": {
                "explore": {"episodes": 4, "kept": 1, "dropped": {"failure": 3}, "seconds": 2.5},
                "train": {"seconds": 1.0},
                "outcome": "ok",
            }
        }
        assert (records[1].seconds["explore"], records[1].seconds["train"]) == (2.5, 1.0)

    def test_progress_of_the_server_is_told(self, tmp_path: Path) -> None:
        events: list[Event] = []
        config = toy_config(*map(toy_client, SITES), rounds=1)
        runtime = ScriptedSites(BEFORE, {1: {"a": sends_update(1), "b": sends_update(2)}})
        Server(config, ServerFolder(tmp_path), runtime, listener=events.append).run()
        assert [(event.phase, event.round, event.done, event.finished) for event in events] == [
            (Phase.AGGREGATE, 1, 2, True)
        ]

    def test_a_finished_run_is_left_alone(self, tmp_path: Path) -> None:
        serve(tmp_path, {"a": sends_update(1)}, {"b": sends_update(1)})
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        runtime, records = serve(tmp_path, {}, {})
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert len(records) == 3
        assert {asked.purpose for asked in runtime.asked} <= {Purpose.JOIN, Purpose.CHECK}

    def test_a_round_that_was_absorbed_is_not_asked_again_on_resuming(self, tmp_path: Path) -> None:
        _, before = serve(tmp_path, {"a": sends_update(1)}, {"a": sends_update(1)})
        lines = ServerFolder(tmp_path).metrics.read_text().splitlines(keepends=True)
        ServerFolder(tmp_path).metrics.write_text("".join(lines[:2]))
        runtime, after = serve(tmp_path, {}, {"a": sends_update(2), "b": sends_update(3)})
        assert Purpose.ROUND not in {asked.purpose for asked in runtime.asked}
        assert after == before


def _changed(**changes: Any) -> Callable[[Instruction], bytes]:
    return sends(Update(adapter=AdapterState(BEFORE.tensors, replace(META, **changes))))


def _tensor(array: Any) -> Callable[[Instruction], bytes]:
    return sends(Update(adapter=with_tensor(BEFORE, A_NAME, np.asarray(array, np.float32))))


def _without(*names: str) -> Callable[[Instruction], bytes]:
    kept = {name: array for name, array in BEFORE.tensors.items() if name not in names}
    return sends(Update(adapter=AdapterState(kept, META)))


def _truncated(instruction: Instruction) -> bytes:
    return replied(instruction, update(1))[:-1]


UNUSABLE: dict[str, tuple[Answer, str]] = {
    "missing": (None, "missing"),
    "empty": (b"", "missing"),
    "garbage": (b"garbage" * 20, "rejected: these bytes are no message"),
    "truncated": (_truncated, "rejected: these bytes are no message"),
    "an instruction": (lambda asked: asked.encode(), "rejected: these bytes are no message"),
    "diverged": (sends(Diverged()), "diverged"),
    "refused": (sends(Refused(reason="StorageError")), "refused: StorageError"),
    "refused in words": (sends(Refused(reason="StorageError", words="disk full")), "refused: disk full"),
    "another round": (sends(update(1), round=7), "rejected: it is from round 7, but 1 was asked"),
    "another purpose": (
        sends(update(1), purpose=Purpose.EVALUATE),
        "rejected: it is from purpose evaluate, but round was asked",
    ),
    "another site": (sends(update(1), site="a"), "rejected: it is from site a, but b was asked"),
    "a stranger": (sends(update(1), site="mallory"), "rejected: it is from site mallory"),
    "nothing": (sends(Done()), "rejected: 'done' is no answer to 'round'"),
    "rates": (
        sends(Rates(successes=1, episodes=1, errors=0, low=0.0, high=1.0)),
        "rejected: 'rates' is no answer to 'round'",
    ),
    "NaN": (_tensor(np.full((2, 5), np.nan)), "NaN"),
    "infinite": (_tensor(np.full((2, 5), np.inf)), "NaN or infinite"),
    "shape": (_tensor(np.ones((1, 1))), "shape (1, 1) instead of (2, 5)"),
    "missing tensor": (_without(A_NAME), f"{A_NAME} is missing"),
    "extra tensor": (
        sends(Update(adapter=with_tensor(BEFORE, "stranger", np.ones((1, 1), np.float32)))),
        "stranger is not expected",
    ),
    "rank": (_changed(rank=4), "rank 4 instead of 2"),
    "alpha": (_changed(alpha=8.0), "alpha 8.0 instead of 4.0"),
    "base": (_changed(base_model="other"), "base_model 'other'"),
    "targets": (_changed(target_modules=("q_proj",)), "target_modules"),
    "scalar": (sends_update(1, examples=1.0), "'examples' was not asked for"),
    "further tensor": (
        sends(Update(adapter=random_state(1), tensors={"x": np.full(1, np.nan, np.float32)})),
        "tensor 'x' is not finite",
    ),
    "strange name": (
        sends(update(1), report=SiteReport(phases={"mallory": {Phase.TRAIN: PhaseSummary(seconds=1.0)}})),
        "rejected: it tells of 'mallory', which is not at this site",
    ),
    "another's name": (
        sends(update(1), report=SiteReport(phases={"a": {Phase.TRAIN: PhaseSummary(seconds=1.0)}})),
        "rejected: it tells of 'a', which is not at this site",
    ),
}


class TestUnusable:
    @pytest.mark.parametrize(("answer", "outcome"), UNUSABLE.values(), ids=list(UNUSABLE))
    def test_a_site_is_left_out_and_told_why(self, tmp_path: Path, answer: Answer, outcome: str) -> None:
        _, records = serve(tmp_path, {"a": sends_update(1), "b": answer}, sites=("a", "b"))
        assert state(tmp_path, 1).adapter().digest == random_state(1).digest
        assert outcomes(records[1])["a"] == "ok"
        assert outcome in outcomes(records[1])["b"]
        assert "train" not in records[1].clients["b"]

    @pytest.mark.parametrize(("answer", "outcome"), UNUSABLE.values(), ids=list(UNUSABLE))
    def test_a_round_without_a_usable_update_changes_nothing(
        self, tmp_path: Path, answer: Answer, outcome: str
    ) -> None:
        for strategy in ("mean", "isolated"):
            folder = tmp_path / strategy
            with pytest.raises(UpdateRejectedError, match="round 1 has no update that can be used") as caught:
                serve(folder, {"b": answer}, sites=("b",), strategy=strategy)
            assert outcome.removeprefix("rejected: ") in caught.value.what
            assert ("learning_rate" in caught.value.mend) == (outcome == "diverged")
            assert [record.round for record in read_records(ServerFolder(folder))] == [0]
            assert not ServerFolder(folder).round(1).exists()

    def test_a_scalar_that_was_asked_for_must_be_there_and_a_weight(self, tmp_path: Path) -> None:
        answers = {"a": sends_update(1), "b": sends_update(2, examples=-1.0), "c": sends_update(3, examples=2.0)}
        runtime, records = serve(tmp_path, answers, strategy="weighted_mean")
        assert "'examples' is missing" in outcomes(records[1])["a"]
        assert "not a finite number" in outcomes(records[1])["b"]
        assert state(tmp_path, 1).adapter().digest == random_state(3).digest
        assert records[1].scalars == {"c": {"examples": 2.0}}
        assert {asked.needs for asked in runtime.asked if asked.purpose is Purpose.ROUND} == {("examples",)}

    def test_a_round_in_which_no_site_has_an_example_changes_no_weight(self, tmp_path: Path) -> None:
        answer = sends(Update(adapter=BEFORE, scalars={"examples": 0.0}))
        serve(tmp_path, {"a": answer, "b": answer}, strategy="weighted_mean")
        assert state(tmp_path, 1).adapter().digest == BEFORE.digest

    def test_one_that_was_left_out_is_welcome_again(self, tmp_path: Path) -> None:
        rounds = [{"a": sends_update(1), "b": b"garbage"}, {"a": sends_update(1), "b": sends_update(1)}]
        _, records = serve(tmp_path, *rounds, sites=("a", "b"))
        assert outcomes(records[2]) == {"a": "ok", "b": "ok"}

    @pytest.mark.parametrize(
        ("purpose", "answer"),
        [
            (Purpose.JOIN, Refused(reason="EnvironmentFault")),
            (Purpose.CHECK, Refused(reason="ConfigError", words="nothing to learn from")),
            (Purpose.DEMONSTRATE, Refused(reason="EnvironmentFault")),
            (Purpose.DEMONSTRATE, Update(adapter=BEFORE)),
            (Purpose.INITIAL, Done()),
        ],
    )
    def test_a_site_that_cannot_begin_stops_the_run(self, tmp_path: Path, purpose: Purpose, answer: Any) -> None:
        class Unwilling(ScriptedSites):
            def _answer(self, instruction: Instruction) -> bytes | None:
                found = super()._answer(instruction)
                return replied(instruction, answer) if instruction.purpose is purpose else found

        config = toy_config(*map(toy_client, SITES))
        with pytest.raises(RunError, match=r"a (refused|rejected)") as caught:
            Server(config, ServerFolder(tmp_path), Unwilling(BEFORE), listener=silent).run()
        assert caught.value.mend
        assert read_records(ServerFolder(tmp_path)) == ()

    def test_an_evaluation_that_does_not_come_is_left_out(self, tmp_path: Path) -> None:
        class Silent(ScriptedSites):
            def _answer(self, instruction: Instruction) -> bytes | None:
                found = super()._answer(instruction)
                return b"garbage" if instruction.purpose is Purpose.EVALUATE and instruction.site == "b" else found

        config = toy_config(toy_client("a"), toy_client("b", options={"secret": "x"}), rounds=0)
        Server(config, ServerFolder(tmp_path), Silent(BEFORE), listener=silent).run()
        [record] = read_records(ServerFolder(tmp_path))
        assert set(record.evaluation) == {"toy@a"}


class TestStrategies:
    def test_one_that_breaks_the_adapter_is_found(self, tmp_path: Path) -> None:
        @dataclass(frozen=True)
        class Shrunk(Strategy):
            name: ClassVar[str] = "shrunk"
            citation: ClassVar[str] = ""

            def absorb(self, state: State, updates: Mapping[str, Update]) -> State:
                return State({GLOBAL: with_tensor(state.adapter(), A_NAME, np.ones((1, 1), np.float32))})

        register(Shrunk)
        with pytest.raises(AdapterError, match="strategy 'shrunk' made an unsound adapter"):
            serve(tmp_path, {"a": sends_update(1)}, strategy="shrunk")
        assert not ServerFolder(tmp_path).round(1).exists()

    def test_it_sees_sound_updates_in_the_order_of_the_sites(self, tmp_path: Path) -> None:
        seen: list[list[str]] = []

        @dataclass(frozen=True)
        class Watching(Strategy):
            name: ClassVar[str] = "watching"
            citation: ClassVar[str] = ""

            def absorb(self, state: State, updates: Mapping[str, Update]) -> State:
                seen.append(list(updates))
                return state

        register(Watching)
        for number, order in enumerate(itertools.permutations(SITES)):
            answers = {"a": sends_update(1), "b": b"", "c": sends_update(3)}
            serve(tmp_path / str(number), answers, sites=order, strategy="watching")
        assert seen == [["a", "c"]] * 6

    def test_a_site_may_have_the_name_of_anything(self, tmp_path: Path) -> None:
        """Such as that of the folder of the global adapter."""
        answers = {"global": sends_update(1), "state": sends_update(2)}
        rounds = (answers, {"state": sends_update(3)})
        _, records = serve(tmp_path, *rounds, sites=("global", "state"), strategy="isolated")
        assert records[2].adapters == {"global": random_state(1).digest, "state": random_state(3).digest}
        assert GLOBAL not in state(tmp_path, 2).adapters

    def test_what_is_to_be_done_and_further_tensors_reach_the_site(self, tmp_path: Path) -> None:
        from fedse.federation.strategies import Sent

        @dataclass(frozen=True)
        class Generous(Strategy):
            name: ClassVar[str] = "generous"
            citation: ClassVar[str] = ""

            def instruct(self, state: State, site: str) -> Sent:
                more = {"x": np.arange(3, dtype=np.float32)}
                return Sent(state.adapter(), tensors=more, work=Work(proximal=0.5))

            def absorb(self, state: State, updates: Mapping[str, Update]) -> State:
                return state

        register(Generous)
        runtime, _ = serve(tmp_path, {"a": sends_update(1)}, strategy="generous")
        asked = {asked.site: asked for asked in runtime.asked if asked.purpose is Purpose.ROUND}
        assert asked["b"].work == Work(proximal=0.5)
        assert asked["b"].tensors["x"].tolist() == [0, 1, 2]


class TestTasks:
    """What sites tell of their tasks decides what they hold out for each other, and how they divide what they share."""

    @staticmethod
    def asked(folder: Path, told: Mapping[str, TaskSummary], **changes: Any) -> dict[str, list[Instruction]]:
        class Telling(ScriptedSites):
            def _answer(self, instruction: Instruction) -> bytes | None:
                found = super()._answer(instruction)
                if instruction.purpose is not Purpose.JOIN:
                    return found
                report = SiteReport(tasks={name: told[name] for name in sites[instruction.site] if name in told})
                return replied(instruction, Done(), report=report)

        clients = changes.pop("clients", [toy_client(site) for site in SITES])
        config = toy_config(*clients, rounds=1, **changes)
        sites = {site: [client.name for client in clients] for site, clients in config.sites.items()}
        runtime = Telling(BEFORE, {1: {site: sends_update(1) for site in sites}})
        Server(config, ServerFolder(folder), runtime, listener=silent).run()
        return {site: [asked for asked in runtime.asked if asked.site == site] for site in sites}

    @staticmethod
    def told(*held_out: str, training: str = "0") -> TaskSummary:
        digests = tuple(task_digest(Task("toy", task)) for task in held_out)
        return TaskSummary(held_out=digests, training=training * 32)

    def test_all_held_out_tasks_reach_all_sites_before_they_learn(self, tmp_path: Path) -> None:
        found = self.asked(tmp_path, {"a": self.told("1", "2"), "b": self.told("2", "3"), "c": TaskSummary()})
        wanted = {task_digest(Task("toy", task)) for task in "123"}
        for asked in found.values():
            for instruction in asked:
                learning = instruction.purpose in (Purpose.CHECK, Purpose.DEMONSTRATE)
                assert set(instruction.held_out) == (wanted if learning else set())

    def test_sites_with_the_same_tasks_divide_them(self, tmp_path: Path) -> None:
        told = {"a": self.told(), "b": self.told(training="1"), "c": self.told()}
        found = self.asked(tmp_path, told, partition={"scheme": "iid"})
        parts = {site: [asked.parts[site] for asked in asked[1:] if asked.parts] for site, asked in found.items()}
        assert {site: set(each) for site, each in parts.items()} == {"a": {(0, 2)}, "b": {(0, 1)}, "c": {(1, 2)}}

    def test_without_a_partition_each_has_all(self, tmp_path: Path) -> None:
        found = self.asked(tmp_path, {site: self.told() for site in SITES})
        assert {part for asked in found.values() for each in asked for part in each.parts.values()} == {(0, 1)}

    def test_what_a_site_keeps_back_cannot_be_divided(self, tmp_path: Path) -> None:
        told = {"a": self.told(), "b": TaskSummary(), "c": self.told()}
        with pytest.raises(RunError, match="site 'b' keeps back which tasks it has") as caught:
            self.asked(tmp_path / "iid", told, partition={"scheme": "iid"})
        assert "partition.scheme=shared" in caught.value.mend
        assert self.asked(tmp_path / "shared", told)["b"][-1].parts == {"b": (0, 1)}

    def test_environments_of_one_site_divide_them_too(self, tmp_path: Path) -> None:
        clients = [toy_client("x", site="one"), toy_client("y", site="one"), toy_client("z")]
        told = {name: self.told() for name in "xyz"}
        found = self.asked(tmp_path, told, clients=clients, partition={"scheme": "iid"})
        assert found["one"][-1].parts == {"x": (0, 3), "y": (1, 3)}
        assert found["z"][-1].parts == {"z": (2, 3)}

    def test_nobody_speaks_for_another(self, tmp_path: Path) -> None:
        class Lying(ScriptedSites):
            def _answer(self, instruction: Instruction) -> bytes | None:
                found = super()._answer(instruction)
                lie = SiteReport(tasks={"b": TestTasks.told("1")})
                joining = instruction.purpose is Purpose.JOIN and instruction.site == "a"
                return replied(instruction, Done(), report=lie) if joining else found

        config = toy_config(*map(toy_client, SITES))
        with pytest.raises(RunError, match="it tells of 'b', which is not at this site"):
            Server(config, ServerFolder(tmp_path), Lying(BEFORE), listener=silent).run()


def test_records_have_the_names_of_sites_and_of_their_environments(tmp_path: Path) -> None:
    config = toy_config(toy_client("x", site="all"), toy_client("y", site="all"), toy_client("z"), rounds=1)
    runtime = ScriptedSites(BEFORE, {1: {"all": sends_update(1), "z": sends_update(2)}})
    Server(config, ServerFolder(tmp_path), runtime, listener=silent).run()
    line = json.loads(ServerFolder(tmp_path).metrics.read_text().splitlines()[1])
    assert line["clients"] == {"all": {"outcome": "ok"}, "x": {}, "y": {}, "z": {"outcome": "ok"}}
