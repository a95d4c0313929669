"""Instructions and replies as bytes: one encoding each, and only a MessageError for anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedse.adapters.codec import pack, unpack
from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import MessageError
from fedse.messages import (
    DEFAULT_FIELDS,
    FIELDS,
    Diverged,
    Done,
    Instruction,
    PhaseSummary,
    Purpose,
    Rates,
    Refused,
    Reply,
    SiteReport,
    TaskSummary,
    Update,
    Work,
)
from fedse.messages.report import FileSummary, task_digest, tasks_digest
from fedse.progress import Phase
from fedse.types import SuccessRate, Task
from helpers.small_adapters import META, random_state, update

DIGEST = "0123456789abcdef" * 2
FULL = PhaseSummary(
    episodes=4,
    errors=1,
    successes=2,
    kept=2,
    dropped={"failure": 1, "error": 1},
    added=1,
    file=FileSummary(sha256=DIGEST * 2, refused={"of another environment": 3}),
    turns=9,
    examples=5,
    steps=2,
    tokens=100,
    loss_tokens=50,
    first_loss=2.5,
    last_loss=1.25,
    diverged="step 2 of 2: the loss is nan",
    seconds=0.125,
)
REPORT = SiteReport(
    phases={"alpha": {Phase.EXPLORE: FULL, Phase.TRAIN: PhaseSummary(steps=2)}},
    tasks={"alpha": TaskSummary(held_out=(DIGEST,), training=DIGEST)},
)
REPLY = Reply(
    site="alpha",
    purpose=Purpose.ROUND,
    round=3,
    answer=Update(adapter=random_state(1), scalars={"examples": 4.0}, tensors={"x": np.ones(2, np.float32)}),
    report=REPORT,
)
INSTRUCTION = Instruction(
    site="alpha",
    purpose=Purpose.ROUND,
    round=3,
    adapter=random_state(1),
    start=random_state(2),
    tensors={"x": np.arange(3, dtype=np.float32)},
    work=Work(trained=Trained(("B",), (1,)), proximal=0.5, moments=8),
    needs=("examples",),
    held_out=(DIGEST,),
    parts={"alpha": (0, 2)},
    environment="alpha",
    owner="beta",
)
ANSWERS = [
    update(1),
    update(2, examples=3.0),
    Diverged(),
    Done(),
    Rates(successes=1, episodes=2, errors=3, low=0.0, high=1.0),
    Refused(reason="EnvironmentFault", words="kaputt: é"),
]
MESSAGES = [INSTRUCTION, REPLY, Instruction(site="a", purpose=Purpose.JOIN)] + [
    Reply(site="a", purpose=Purpose.ROUND, round=0, answer=answer) for answer in ANSWERS
]


def refused(kind: type[Instruction] | type[Reply], data: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        kind.decode(data)
    assert caught.value.mend
    return caught.value.what


def accepted_only_as_encoded(kind: type[Instruction] | type[Reply], data: bytes) -> None:
    try:
        message = kind.decode(data)
    except MessageError:
        return
    assert message.encode() == data


def changed(message: Instruction | Reply, change: Callable[[Any], Any]) -> bytes:
    """The bytes of a message after a change of its body."""
    body, arrays = unpack(message.encode())
    change(body)
    return pack(body, arrays)


@pytest.mark.parametrize("message", MESSAGES)
def test_decoding_undoes_encoding(message: Instruction | Reply) -> None:
    wire = message.encode()
    decoded = type(message).decode(wire)
    assert decoded.encode() == wire
    assert decoded.model_dump(exclude={"adapter", "start", "tensors", "answer"}) == message.model_dump(
        exclude={"adapter", "start", "tensors", "answer"}
    )


def test_adapters_and_tensors_come_back_bit_for_bit() -> None:
    decoded = Instruction.decode(INSTRUCTION.encode())
    for found, sent in ((decoded.adapter, random_state(1)), (decoded.start, random_state(2))):
        assert found is not None
        assert (found.digest, found.meta) == (sent.digest, sent.meta)
    assert decoded.tensors["x"].tolist() == [0, 1, 2]
    answer = Reply.decode(REPLY.encode()).answer
    assert isinstance(answer, Update)
    assert (answer.adapter.digest, answer.scalars, answer.tensors["x"].tolist()) == (
        random_state(1).digest,
        {"examples": 4.0},
        [1, 1],
    )


def test_special_values_survive_bit_for_bit() -> None:
    special = AdapterState({"x": np.array([[np.nan, np.inf, -0.0, 1e-45]], np.float32)}, META)
    wire = Reply(site="a", purpose=Purpose.ROUND, round=1, answer=Update(adapter=special)).encode()
    answer = Reply.decode(wire).answer
    assert isinstance(answer, Update)
    assert answer.adapter.digest == special.digest


def test_names_of_tensors_may_be_those_of_any_field() -> None:
    arrays = {name: np.full(1, number, np.float32) for number, name in enumerate(["0/x", "1/x", "/", "1", "x"])}
    sent = Instruction(site="a", purpose=Purpose.ROUND, adapter=random_state(1), tensors=arrays)
    decoded = Instruction.decode(sent.encode())
    assert {name: array.tolist() for name, array in decoded.tensors.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert decoded.adapter is not None
    assert decoded.adapter.digest == random_state(1).digest


def test_a_rate_is_what_readers_know() -> None:
    assert Rates(successes=1, episodes=2, errors=3, low=0.25, high=0.75).rate == SuccessRate(1, 2, 3, 0.25, 0.75)


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
arrays = st.builds(
    lambda shape, seed: np.random.default_rng(seed).normal(size=shape).astype(np.float32),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 100),
)
states = st.builds(
    AdapterState,
    st.dictionaries(names, arrays, max_size=4),
    st.builds(
        AdapterMeta,
        st.integers(1, 64),
        st.floats(1e-3, 1e6),
        st.lists(names, max_size=3).map(tuple),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    ),
)


@given(states, st.dictionaries(names, finite, max_size=3), st.dictionaries(names, arrays, max_size=3))
def test_any_update_comes_back(adapter: AdapterState, scalars: dict[str, float], tensors: dict[str, Any]) -> None:
    answer = Update(adapter=adapter, scalars=scalars, tensors=tensors)
    wire = Reply(site="a", purpose=Purpose.ROUND, round=1, answer=answer).encode()
    decoded = Reply.decode(wire)
    assert decoded.encode() == wire
    assert isinstance(decoded.answer, Update)
    assert (decoded.answer.adapter.digest, decoded.answer.adapter.meta) == (adapter.digest, adapter.meta)
    assert decoded.answer.scalars == scalars


WIRES = [(type(message), message.encode()) for message in MESSAGES[:2]]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | finite
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["", "0", "1", "2", "alpha", "update", DIGEST]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["tensors", "kind", "rank", "x"]), children, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside JSON data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, item in items for found in paths(item, (*path, key))]


@settings(max_examples=600)
@given(st.sampled_from(WIRES), st.data())
def test_no_value_anywhere_makes_a_foreign_exception(
    wire: tuple[type[Instruction] | type[Reply], bytes], data: st.DataObject
) -> None:
    kind, message = wire
    body, packed = unpack(message)
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(paths(body)))
        place = body
        for key in way:
            place = place[key]
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                place[last] = data.draw(json_values)
            case "remove":
                del place[last]
            case "add" if isinstance(place, dict):
                place[data.draw(st.text(max_size=5))] = data.draw(json_values)
    if paths(body):
        accepted_only_as_encoded(kind, pack(body, packed))


@settings(max_examples=200)
@given(st.sampled_from([Instruction, Reply]), json_values, st.dictionaries(names, arrays, max_size=3))
def test_no_body_makes_a_foreign_exception(
    kind: type[Instruction] | type[Reply], body: Any, packed: dict[str, Any]
) -> None:
    accepted_only_as_encoded(kind, pack(body, packed))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(Reply, data)
    refused(Instruction, data)


def test_every_truncation_is_refused() -> None:
    wire = REPLY.encode()
    for length in range(len(wire)):
        refused(Reply, wire[:length])


def test_a_message_of_the_other_kind_is_refused() -> None:
    refused(Reply, INSTRUCTION.encode())
    refused(Instruction, REPLY.encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda body: body.update(trajectories=3), "trajectories"),
        (lambda body: body.pop("round"), "round"),
        (lambda body: body.update(round=-1), "round"),
        (lambda body: body.update(round=1.0), "round"),
        (lambda body: body.update(round="1"), "round"),
        (lambda body: body.update(round=True), "round"),
        (lambda body: body.update(site="../x"), "site"),
        (lambda body: body.update(site="a\n"), "site"),
        (lambda body: body.update(site="_global"), "site"),
        (lambda body: body.update(purpose="explain"), "purpose"),
        (lambda body: body["answer"].update(kind="gift"), "answer"),
        (lambda body: body["answer"].update(more=1), "more"),
        (lambda body: body["answer"].update(scalars={"examples": "many"}), "scalars"),
        (lambda body: body["answer"]["adapter"].update(rank=0), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(rank=True), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(alpha=0.0), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(alpha=4), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(more=4), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(target_modules=[1]), "an adapter wanted"),
        (lambda body: body["answer"]["adapter"].update(tensors={"x": {}}), "tensors wanted"),
        (lambda body: body["answer"]["adapter"].update(tensors={"x": [10**400]}), "tensors wanted"),
        (lambda body: body["answer"]["adapter"].update(tensors={"x": [[1.0]]}), "tensors wanted"),
        (lambda body: body["answer"]["adapter"].update(tensors="7"), "canonical"),
        (lambda body: body["answer"].update(tensors="0"), "canonical"),
        (lambda body: body["answer"].update(tensors=""), "canonical"),
        (lambda body: body["report"].update(task="maze:3"), "task"),
        (lambda body: body["report"]["phases"]["alpha"].update(think={}), "phases"),
        (lambda body: body["report"]["phases"]["alpha"]["explore"].update(observation="secret"), "observation"),
        (lambda body: body["report"]["phases"]["alpha"]["explore"].update(kept=-1), "kept"),
        (lambda body: body["report"]["phases"]["alpha"]["explore"]["dropped"].update({"Maze:3": 1}), "dropped"),
        (lambda body: body["report"]["phases"]["alpha"]["explore"]["file"].update(sha256="/home/me"), "sha256"),
        (lambda body: body["report"]["phases"]["alpha"]["explore"].update(diverged="x" * 501), "diverged"),
        (lambda body: body["report"]["tasks"]["alpha"].update(held_out=["maze:3"]), "held_out"),
        (lambda body: body["report"]["tasks"]["alpha"].update(training="maze:3"), "training"),
    ],
)
def test_a_reply_with_what_is_not_declared_is_refused(change: Callable[[Any], Any], why: str) -> None:
    assert why in refused(Reply, changed(REPLY, change))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda body: body.update(run="../../x"), "run"),
        (lambda body: body.update(owner="/../../x"), "owner"),
        (lambda body: body.update(environment="../x"), "environment"),
        (lambda body: body.update(parts={"../x": [0, 1]}), "parts"),
        (lambda body: body.update(parts={"alpha": [0, 0]}), "part 0 of 0"),
        (lambda body: body.update(parts={"alpha": [2, 2]}), "part 2 of 2"),
    ],
)
def test_an_instruction_that_leads_elsewhere_is_refused(change: Callable[[Any], Any], why: str) -> None:
    """A site's files are called by what an instruction names."""
    assert why in refused(Instruction, changed(INSTRUCTION, change))


def test_a_value_in_another_form_is_refused() -> None:
    """As 3 for 3.0, which would be read as the same, and make two encodings of one message."""
    assert "canonical" in refused(Reply, changed(REPLY, lambda body: body["answer"].update(scalars={"examples": 4})))
    assert "canonical" in refused(
        Reply, changed(REPLY, lambda body: body["report"]["phases"]["alpha"]["explore"].pop("seconds"))
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Refused(reason="it said: maze:3"),
        lambda: Refused(reason=""),
        lambda: update(1, examples=float("nan")),
        lambda: Rates(successes=-1, episodes=1, errors=0, low=0.0, high=1.0),
        lambda: Rates(successes=1, episodes=1, errors=0, low=float("nan"), high=1.0),
        lambda: PhaseSummary(first_loss=float("nan")),
        lambda: PhaseSummary(words="secret"),
        lambda: TaskSummary(training="maze:3"),
    ],
)
def test_what_is_not_declared_cannot_be_sent(make: Callable[[], Any]) -> None:
    with pytest.raises(ValidationError):
        make()


@pytest.mark.parametrize("ranks", [(), (2, 1), (1, 1), (-1,), (0, 4)])
def test_a_part_that_the_adapter_has_not_cannot_be_asked_for(ranks: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="of an adapter of rank 2"):
        Instruction(site="a", purpose=Purpose.ROUND, adapter=random_state(1), work=Work(trained=Trained(ranks=ranks)))


def test_an_update_is_little_more_than_its_weights() -> None:
    reply = Reply(site="a", purpose=Purpose.ROUND, round=1, answer=update(1, examples=12.0))
    assert len(reply.encode()) < random_state(1).nbytes + 1000


class TestReport:
    @pytest.mark.parametrize("field", sorted(PhaseSummary.model_fields))
    def test_each_number_of_a_phase_can_be_kept_back(self, field: str) -> None:
        told = REPORT.only(set(FIELDS) - {field})
        assert field in REPORT.phases["alpha"][Phase.EXPLORE].metrics()
        assert told.phases["alpha"][Phase.EXPLORE].metrics().keys() == FULL.metrics().keys() - {field}

    @pytest.mark.parametrize("field", sorted(TaskSummary.model_fields))
    def test_each_digest_of_tasks_can_be_kept_back(self, field: str) -> None:
        told = REPORT.only(set(FIELDS) - {field}).tasks["alpha"].model_dump()
        assert told[field] is None
        assert None not in (told | {field: ""}).values()

    def test_nothing_is_left_of_a_report_that_may_tell_nothing(self) -> None:
        told = REPORT.only(())
        values = [
            *(value for phases in told.phases.values() for phase in phases.values() for value in phase.metrics()),
            *(value for tasks in told.tasks.values() for value in tasks.model_dump().values()),
        ]
        assert set(values) <= {None}

    def test_all_fields_are_declared_in_one_place_with_what_they_tell(self) -> None:
        assert set(PhaseSummary.model_fields) | set(TaskSummary.model_fields) | {
            "rates",
            "moments",
            "gradients",
            "errors_in_words",
        } == set(FIELDS)
        assert all(FIELDS.values())
        assert set(FIELDS) - DEFAULT_FIELDS == {"errors_in_words"}


class TestDigests:
    def test_they_tell_tasks_apart_and_not_what_they_are(self) -> None:
        first, second = Task("maze", "1"), Task("maze", "2")
        assert task_digest(first) == task_digest(Task("maze", "1")) != task_digest(second)
        assert tasks_digest([first, second]) != tasks_digest([second, first])
        assert tasks_digest([first], ["easy"]) != tasks_digest([first], ["hard"]) != tasks_digest([first])
        assert "maze" not in json.dumps([task_digest(first), tasks_digest([first])])
