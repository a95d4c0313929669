"""Messages whose adapters are told by others, and bytes of all kinds given to those who read messages."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedse.adapters.codec import MANIFEST_LIMIT, VERSION, pack, unpack
from fedse.adapters.deltas import CODECS, decode, encode
from fedse.adapters.state import AdapterState
from fedse.errors import MessageError, UnknownAdapterError
from fedse.messages import Instruction, Purpose, Reply, Update, Work
from fedse.messages.wire import Delta
from fedse.types import CodecName
from helpers.small_adapters import META, random_state

BASE, START = random_state(1), random_state(2)
KNOWN = {adapter.digest: adapter for adapter in (BASE, START)}


def told(codec: CodecName, base: AdapterState = BASE) -> tuple[AdapterState, Delta]:
    """An adapter as it is after it was told by another, and how it is told."""
    payload = encode(codec, base, random_state(3))
    return decode(codec, base, payload), Delta(base.digest, codec, payload)


def instruction(codec: CodecName = "bf16") -> bytes:
    adapter, delta = told(codec)
    fields: dict[str, Any] = {"tensors": {"x": np.arange(3, dtype=np.float32)}, "work": Work(proximal=0.5)}
    message = Instruction(site="a", purpose=Purpose.ROUND, round=3, adapter=adapter, start=START, codec=codec, **fields)
    return message.encode({adapter.digest: delta, START.digest: Delta(START.digest)})


def reply(codec: CodecName = "bf16") -> bytes:
    adapter, delta = told(codec)
    answer = Update(adapter=adapter, scalars={"examples": 4.0})
    return Reply(site="a", purpose=Purpose.ROUND, round=3, answer=answer).encode({adapter.digest: delta})


def changed(data: bytes, change: Callable[[Any, dict[str, Any]], None]) -> bytes:
    body, arrays = unpack(data)
    change(body, arrays)
    return pack(body, arrays)


@pytest.mark.parametrize("codec", CODECS)
def test_both_sides_have_the_same_whole_adapter(codec: CodecName) -> None:
    adapter, _ = told(codec)
    found = Instruction.decode(instruction(codec), KNOWN.get)
    assert found.adapter is not None
    assert found.start is not None
    assert (found.adapter.digest, found.start.digest, found.adapter.meta) == (adapter.digest, START.digest, META)
    answer = Reply.decode(reply(codec), KNOWN.get, codec=codec).answer
    assert isinstance(answer, Update)
    assert answer.adapter.digest == adapter.digest


def test_of_an_adapter_that_the_receiver_has_only_the_digest_crosses() -> None:
    wire = Instruction(site="a", purpose=Purpose.ROUND, adapter=BASE).encode({BASE.digest: Delta(BASE.digest)})
    assert unpack(wire)[1] == {}
    found = Instruction.decode(wire, KNOWN.get).adapter
    assert found is not None
    assert found.digest == BASE.digest


def test_the_meta_is_that_of_the_adapter_and_not_of_its_base() -> None:
    adapter = AdapterState(BASE.tensors, replace(META, alpha=7.0))
    wire = Instruction(site="a", purpose=Purpose.ROUND, adapter=adapter).encode({BASE.digest: Delta(BASE.digest)})
    found = Instruction.decode(wire, KNOWN.get).adapter
    assert found is not None
    assert found.meta.alpha == 7.0


def test_an_adapter_that_is_not_here_is_named_and_the_rest_can_be_read() -> None:
    for known in ({}, {START.digest: START}):
        with pytest.raises(UnknownAdapterError, match=BASE.digest[:12]) as caught:
            Instruction.decode(instruction(), known.get)
        assert caught.value.mend
    outline = Instruction.outline(instruction())
    assert (outline.site, outline.purpose, outline.round, outline.adapter) == ("a", Purpose.ROUND, 3, None)
    with pytest.raises(MessageError):
        Instruction.outline(reply())


def test_another_codec_than_was_asked_for_is_refused() -> None:
    with pytest.raises(MessageError, match="told in bf16, but int4 was asked for"):
        Reply.decode(reply("bf16"), KNOWN.get, codec="int4")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda adapter, _: adapter.update(digest=BASE.digest), "not the one that was told"),
        (lambda adapter, _: adapter.update(base=START.digest), "not the one that was told"),
        (lambda adapter, _: adapter.update(codec="int8"), "no change of an adapter"),
        (lambda adapter, _: adapter.update(codec="zip"), "an adapter wanted"),
        (lambda adapter, _: adapter.update(codec=None), "an adapter wanted"),
        (lambda adapter, _: adapter.update(change=""), "not the one that was told"),
        (lambda adapter, _: adapter.update(change="7"), "a change wanted"),
        (lambda adapter, _: adapter.update(change=None), "tensors wanted"),
        (lambda adapter, _: adapter.update(more=1), "an adapter wanted"),
        (lambda adapter, _: adapter.pop("digest"), "an adapter wanted"),
        (lambda adapter, _: adapter.update(tensors=""), "an adapter wanted"),
        (lambda adapter, arrays: arrays.update({"0/x": b"secret"}), "canonical"),
        (lambda adapter, arrays: arrays.update({"5/": b"secret"}), "canonical"),
        (lambda adapter, arrays: arrays.update({"0/": np.ones(3, np.float32)}), "a change wanted"),
    ],
)
def test_a_told_adapter_that_is_not_as_declared_is_refused(change: Callable[[Any, Any], None], why: str) -> None:
    data = changed(reply(), lambda body, arrays: change(body["answer"]["adapter"], arrays))
    with pytest.raises(MessageError, match=why):
        Reply.decode(data, KNOWN.get)


def test_bytes_are_no_tensors() -> None:
    def change(body: Any, arrays: dict[str, Any]) -> None:
        body["answer"]["tensors"] = body["answer"]["adapter"]["change"]

    with pytest.raises(MessageError, match="tensors wanted"):
        Reply.decode(changed(reply(), change), KNOWN.get)


def test_a_message_that_is_longer_than_is_allowed_is_refused() -> None:
    wire = instruction()
    assert Instruction.decode(wire, KNOWN.get, limit=len(wire)).site == "a"
    for read in (Instruction.outline, lambda data, limit: Instruction.decode(data, KNOWN.get, limit=limit)):
        with pytest.raises(MessageError, match=f"more than the {len(wire) - 1} that are allowed"):
            read(wire, len(wire) - 1)


def test_claims_of_ten_gigabytes_are_refused_at_once() -> None:
    ten = 10 * 2**30
    claims = [
        framed(json.dumps({"arrays": [["0/x", [ten // 4]]], "body": 1}, separators=(",", ":")).encode(), b"1234"),
        framed(json.dumps({"arrays": [["0/", ten]], "body": 1}, separators=(",", ":")).encode(), b"1234"),
        framed(b"[" * 100, b"", length=2**32 - 1),
        framed(b" " * (MANIFEST_LIMIT + 1), b""),
        changed(reply(), lambda body, arrays: arrays.update({"0/": bomb(ten)})),
    ]
    tracemalloc.start()
    for data in claims:
        with pytest.raises(MessageError, match=r"beyond the|more than the|but \d+ are wanted"):
            Reply.decode(data, KNOWN.get)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_what_would_be_too_long_to_read_cannot_be_sent() -> None:
    with pytest.raises(MessageError, match="beside the arrays"):
        pack("x" * MANIFEST_LIMIT, {})


@pytest.mark.long
@pytest.mark.parametrize(("kind", "codec"), [(Instruction, "fp32"), (Reply, "int4")])
def test_ten_thousand_changed_messages_raise_nothing_else_and_allocate_little(
    kind: type[Instruction] | type[Reply], codec: CodecName
) -> None:
    """Bytes are changed anywhere; three times in four behind a right checksum, as someone does who means harm."""
    wire = instruction(codec) if kind is Instruction else reply(codec)
    random = np.random.default_rng(11)
    length = int.from_bytes(wire[8:12], "little")
    manifest, content = wire[12 : 12 + length], wire[12 + length : -32]
    accepted = 0
    tracemalloc.start()
    for number in range(10_000):
        wrong = [bytearray(wire[:-32]), bytearray(manifest), bytearray(content), bytearray(wire)][number % 4]
        for _ in range(random.integers(1, 3)):
            place = random.integers(len(wrong))
            wrong[place : place + random.integers(0, 3)] = random.bytes(int(random.integers(0, 3)))
        match number % 4:
            case 0:
                data = bytes(wrong) + hashlib.sha256(wrong).digest()
            case 1:
                data = framed(bytes(wrong), content)
            case 2:
                data = framed(manifest, bytes(wrong))
            case _:
                data = bytes(wrong)
        try:
            message = kind.decode(data, KNOWN.get)
        except MessageError:
            continue
        accepted += 1
        assert message.site
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert accepted < 2_000
    assert peak < 1_000_000


def framed(manifest: bytes, content: bytes, *, length: int | None = None) -> bytes:
    """A message with a right checksum around anything."""
    size = len(manifest) if length is None else length
    message = b"FEDSE\0" + VERSION.to_bytes(2, "little") + size.to_bytes(4, "little") + manifest + content
    return message + hashlib.sha256(message).digest()


def bomb(size: int) -> bytes:
    """A zstd frame whose header says that it has so many bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
