"""Rounds that go on without all sites: sampling, quorum, deadline, late joiners, and the memory of who is away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.errors import RunError, UpdateRejectedError
from fedse.federation.server import Server
from fedse.federation.strategies.averaging import average
from fedse.messages import Diverged, Instruction, Purpose, Refused, Reply, Update
from fedse.progress import silent
from fedse.runs.folder import open_server
from fedse.runs.layout import ServerFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import load_state
from fedse.types import RoundRecord
from helpers.runtimes import Answer, ScriptedSites, replied
from helpers.small_adapters import random_state, update
from helpers.toy_runs import toy_client, toy_config

BEFORE = random_state(0)


def sends(seed: int) -> Callable[[Instruction], bytes]:
    return lambda instruction: replied(instruction, update(seed))


def serve(
    folder: Path,
    *rounds: Mapping[str, Answer],
    sites: str = "abc",
    away: Mapping[str, int] | None = None,
    **exchange: Any,
) -> tuple[ScriptedSites, tuple[RoundRecord, ...]]:
    runtime = ScriptedSites(BEFORE, dict(enumerate(rounds, start=1)), away or {})
    config = toy_config(*map(toy_client, sites), rounds=len(rounds), exchange=exchange)
    Server(config, ServerFolder(folder), runtime, listener=silent).run()
    return runtime, read_records(ServerFolder(folder))


def outcomes(record: RoundRecord) -> dict[str, str]:
    return {site: told["outcome"] for site, told in record.clients.items()}


def asked(runtime: ScriptedSites, purpose: Purpose, number: int = 0) -> list[str]:
    return [one.site for one in runtime.asked if (one.purpose, one.round) == (purpose, number)]


def digest(folder: Path, number: int) -> str:
    return load_state(ServerFolder(folder), number).adapter().digest


def mean(*states: Any) -> str:
    return average((1.0, state) for state in states).digest


def test_a_share_of_the_sites_is_drawn_anew_for_each_round(tmp_path: Path) -> None:
    rounds = [{site: sends(seed) for seed, site in enumerate("abcdef")} for _ in range(6)]
    runtime, records = serve(tmp_path, *rounds, sites="abcdef", participation=0.5)
    drawn = [asked(runtime, Purpose.ROUND, number) for number in range(1, 7)]
    assert {len(sites) for sites in drawn} == {3}
    assert len({tuple(sites) for sites in drawn}) > 1
    for sites, record in zip(drawn, records[1:], strict=True):
        assert outcomes(record) == {site: "ok" if site in sites else "not drawn" for site in "abcdef"}
    again, _ = serve(tmp_path / "again", *rounds, sites="abcdef", participation=0.5)
    assert [asked(again, Purpose.ROUND, number) for number in range(1, 7)] == drawn


def test_an_absent_sites_last_update_counts_for_as_many_rounds_as_are_remembered(tmp_path: Path) -> None:
    first = {"a": sends(1), "b": sends(2)}
    alone = {"a": sends(3)}
    _, records = serve(tmp_path, first, alone, alone, alone, sites="ab", memory=2)
    told = [outcomes(record)["b"] for record in records[1:]]
    assert told == ["ok", *["missing; its update of round 1 counts"] * 2, "missing"]
    begun, after = load_state(ServerFolder(tmp_path), 0).adapter(), load_state(ServerFolder(tmp_path), 1).adapter()
    change = {name: array - begun.tensors[name] for name, array in random_state(2).tensors.items()}
    expected = {name: (random_state(3).tensors[name] + (after.tensors[name] + change[name])) / 2 for name in change}
    found = load_state(ServerFolder(tmp_path), 2).adapter().tensors
    assert all(np.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    assert digest(tmp_path, 4) == random_state(3).digest, "forgotten after two rounds"


def test_without_memory_an_absent_site_does_not_count(tmp_path: Path) -> None:
    serve(tmp_path, {"a": sends(1), "b": sends(2)}, {"a": sends(3)}, sites="ab")
    assert digest(tmp_path, 2) == random_state(3).digest


def test_a_site_that_joins_late_is_let_in_with_its_demonstrations(tmp_path: Path) -> None:
    rounds = [{site: sends(seed) for seed, site in enumerate("ab", start=number)} for number in range(3)]
    runtime, records = serve(tmp_path, *rounds, sites="ab", away={"b": 2}, deadline=60.0)
    assert outcomes(records[1]) == {"a": "ok", "b": "absent"}
    assert outcomes(records[2]) == {"a": "ok", "b": "ok"}
    of_b = [one.purpose for one in runtime.asked if one.site == "b"]
    let_in = [Purpose.JOIN, Purpose.CHECK, Purpose.DEMONSTRATE, Purpose.ROUND]
    assert of_b[: of_b.index(Purpose.ROUND) + 1] == [Purpose.JOIN, *let_in], "asked at the start, and when it is there"
    assert digest(tmp_path, 1) == random_state(0).digest
    assert digest(tmp_path, 3) == mean(random_state(2), random_state(3))


def test_a_site_that_has_lost_what_it_knew_of_the_run_is_let_in_anew(tmp_path: Path) -> None:
    lost = {"a": sends(1), "b": lambda one: replied(one, Refused(reason="UnknownRunError"))}
    runtime, records = serve(tmp_path, lost, {"a": sends(3), "b": sends(4)}, sites="ab")
    assert outcomes(records[1]) == {"a": "ok", "b": "refused: UnknownRunError"}
    assert outcomes(records[2]) == {"a": "ok", "b": "ok"}
    of_b = [one.purpose for one in runtime.asked if one.site == "b"]
    again = of_b[of_b.index(Purpose.ROUND) + 1 :]
    assert again[: again.index(Purpose.ROUND)] == [Purpose.JOIN, Purpose.CHECK, Purpose.DEMONSTRATE]


def test_a_late_site_that_cannot_demonstrate_stays_outside_and_the_others_go_on(tmp_path: Path) -> None:
    class Full(ScriptedSites):
        def _answer(self, instruction: Instruction) -> bytes | str | None:
            answer = super()._answer(instruction)
            if (instruction.site, instruction.purpose) == ("b", Purpose.DEMONSTRATE):
                return replied(instruction, Refused(reason="StorageError"))
            return answer

    runtime = Full(BEFORE, {1: {"a": sends(1)}, 2: {"a": sends(2)}}, {"b": 1})
    config = toy_config(*map(toy_client, "ab"), rounds=2, exchange={"deadline": 60.0})
    told: list[str] = []
    Server(config, ServerFolder(tmp_path), runtime, listener=silent, told=told.append).run()
    assert [outcomes(record)["b"] for record in read_records(ServerFolder(tmp_path))[1:]] == ["absent", "absent"]
    assert "b stays outside: refused: StorageError" in told


def test_a_round_waits_beyond_its_deadline_for_a_quorum(tmp_path: Path) -> None:
    late: dict[str, int] = {"tries": 0}

    def slow(instruction: Instruction) -> bytes | None:
        late["tries"] += 1
        return replied(instruction, update(2)) if late["tries"] == 3 else None

    runtime, records = serve(tmp_path, {"a": sends(1), "b": slow}, sites="ab", deadline=60.0, quorum=2)
    assert asked(runtime, Purpose.ROUND, 1) == ["a", "b", "b", "b"], "who has answered is not asked again"
    assert outcomes(records[1]) == {"a": "ok", "b": "ok"}
    assert digest(tmp_path, 1) == mean(random_state(1), random_state(2))


def test_with_a_deadline_a_round_is_made_of_those_that_answered(tmp_path: Path) -> None:
    _, records = serve(tmp_path, {"a": sends(1), "b": None, "c": sends(3)}, deadline=60.0)
    assert outcomes(records[1]) == {"a": "ok", "b": "missing", "c": "ok"}
    assert digest(tmp_path, 1) == mean(random_state(1), random_state(3))


def test_why_there_is_no_reply_is_noted_and_not_asked_again(tmp_path: Path) -> None:
    rounds = {"a": sends(1), "b": "its key was revoked"}
    _, records = serve(tmp_path, rounds, sites="ab", deadline=60.0)
    assert outcomes(records[1]) == {"a": "ok", "b": "no answer: its key was revoked"}
    with pytest.raises(UpdateRejectedError, match="b no answer: its key was revoked"):
        serve(tmp_path / "two", rounds, sites="ab", deadline=60.0, quorum=2)


def test_too_few_updates_where_no_more_can_come_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(UpdateRejectedError, match=r"1 update, exchange.quorum wants 2: a ok; b diverged"):
        serve(tmp_path, {"a": sends(1), "b": lambda one: replied(one, Diverged())}, sites="ab", quorum=2, deadline=9.0)
    with pytest.raises(UpdateRejectedError, match="b missing"):
        serve(tmp_path / "waits for all", {"a": sends(1)}, sites="ab", quorum=2)


def test_without_a_deadline_all_sites_must_join(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="b missing"):
        serve(tmp_path, {"a": sends(1)}, sites="ab", away={"b": 5})


def test_the_evaluation_of_a_site_that_is_away_is_played_by_another_that_can(tmp_path: Path) -> None:
    runtime = ScriptedSites(BEFORE, {1: {"b": sends(1)}}, {"a": 9})
    config = toy_config(toy_client("a"), toy_client("b"), rounds=1, exchange={"deadline": 60.0})
    Server(config, ServerFolder(tmp_path), runtime, listener=silent).run()
    assert asked(runtime, Purpose.EVALUATE, 1) == ["b"]
    assert len(read_records(ServerFolder(tmp_path))[1].evaluation) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("round", 1), ("site", "a"), ("run", "0" * 32), ("owner", "a"), ("environment", "a")]
)
def test_a_reply_to_another_instruction_is_rejected(tmp_path: Path, field: str, value: object) -> None:
    def stale(instruction: Instruction) -> bytes:
        return Reply.decode(replied(instruction, update(9))).model_copy(update={field: value}).encode()

    _, records = serve(tmp_path, {"a": sends(1), "b": sends(2)}, {"a": sends(3), "b": stale}, sites="ab")
    assert outcomes(records[2])["b"].startswith(f"rejected: it is from {field} {value}, but ")
    assert digest(tmp_path, 2) == random_state(3).digest


def test_the_updates_are_read_from_disk(tmp_path: Path) -> None:
    serve(tmp_path, {"a": sends(1), "b": sends(2)}, sites="ab")
    kept = {
        path.name: Reply.decode(path.read_bytes()).answer
        for path in ServerFolder(tmp_path).reply(1, "a").parent.iterdir()
    }
    assert {site: answer.adapter.digest for site, answer in kept.items() if isinstance(answer, Update)} == {
        "a": random_state(1).digest,
        "b": random_state(2).digest,
    }


def test_a_run_goes_on_with_a_site_more_and_a_site_less(tmp_path: Path) -> None:
    def stop(_: Instruction) -> bytes | None:
        raise KeyboardInterrupt

    def go_on(sites: str, answers: Mapping[int, Mapping[str, Answer]]) -> tuple[RoundRecord, ...]:
        config = toy_config(*map(toy_client, sites), rounds=3, exchange={"deadline": 60.0, "codec": "fp32"})
        runtime = ScriptedSites(BEFORE, answers)
        folder = ServerFolder(tmp_path)
        with open_server(config, folder, resume=True, sites_change=True, software=dict):
            Server(config, folder, runtime, listener=silent).run()
        return read_records(folder)

    with pytest.raises(KeyboardInterrupt):
        go_on("ab", {1: {"a": sends(1), "b": sends(2)}, 2: {"a": stop}})
    records = go_on("ac", {number: {"a": sends(3), "c": sends(4)} for number in (1, 2, 3)})
    assert [outcomes(record) for record in records[1:]] == [
        {"a": "ok", "b": "ok"},
        {"a": "ok", "c": "ok"},
        {"a": "ok", "c": "ok"},
    ]
    assert digest(tmp_path, 3) == mean(random_state(3), random_state(4))
    changed = toy_config(toy_client("a", episodes_per_round=9), rounds=3, exchange={"deadline": 60.0, "codec": "fp32"})
    with (
        pytest.raises(RunError, match="another configuration"),
        open_server(changed, ServerFolder(tmp_path), resume=True, sites_change=True, software=dict),
    ):
        pass


def test_words_of_a_site_steer_no_terminal(tmp_path: Path) -> None:
    refused = Refused(reason="ConfigError", words="\x1b[2Jgone\n")
    _, records = serve(tmp_path, {"a": sends(1), "b": lambda one: replied(one, refused)}, sites="ab")
    assert outcomes(records[1])["b"] == "refused:  [2Jgone "
