from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import AdapterError, FedseError
from fedse.messages.codec import decode_update, encode_update
from fedse.messages.update import ClientUpdate
from helpers.small_adapters import META, random_state, update

UPDATE = update("site-1", 3, examples=12.0)
WIRE = encode_update(UPDATE)
HEADER = struct.Struct("<6sHI")


def reframed(manifest: bytes, tensors: bytes) -> bytes:
    """A message with a right header and checksum around any content."""
    message = HEADER.pack(b"FEDSE\0", 1, len(manifest)) + manifest + tensors
    return message + hashlib.sha256(message).digest()


def parts(wire: bytes) -> tuple[dict[str, Any], bytes]:
    length = HEADER.unpack_from(wire)[2]
    return json.loads(wire[HEADER.size : HEADER.size + length]), wire[HEADER.size + length : -32]


def dumped(manifest: Any) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def refused(data: bytes) -> str:
    with pytest.raises(AdapterError) as caught:
        decode_update(data)
    assert caught.value.mend
    return caught.value.what


def same(first: ClientUpdate, second: ClientUpdate) -> bool:
    return (first.client, first.round, dict(first.scalars), first.adapter.meta) == (
        second.client,
        second.round,
        dict(second.scalars),
        second.adapter.meta,
    ) and first.adapter.digest == second.adapter.digest


names = st.text(min_size=0, max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
states = st.builds(
    lambda shapes, seed, meta: AdapterState(
        {name: np.random.default_rng(seed).normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
        meta,
    ),
    st.dictionaries(names, st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=4),
    st.integers(0, 100),
    st.builds(AdapterMeta, st.integers(1, 64), floats, st.lists(names, max_size=3).map(tuple), names),
)
updates = st.builds(ClientUpdate, names, st.integers(0, 10**6), states, st.dictionaries(names, floats, max_size=3))


@given(updates)
def test_decoding_undoes_encoding(original: ClientUpdate) -> None:
    wire = encode_update(original)
    decoded = decode_update(wire)
    assert same(decoded, original)
    assert encode_update(decoded) == wire


def test_special_values_survive_bit_for_bit() -> None:
    special = np.array([[np.nan, np.inf, -0.0, 1e-45]], np.float32)
    sent = ClientUpdate("a", 1, AdapterState({"x": special}, META))
    assert decode_update(encode_update(sent)).adapter.digest == sent.adapter.digest


def test_an_update_is_little_more_than_its_weights() -> None:
    assert len(WIRE) < UPDATE.adapter.nbytes + 1000


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(AdapterError):
        decode_update(data)


@settings(max_examples=300)
@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(WIRE) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != WIRE[position]))
    with pytest.raises(AdapterError):
        decode_update(WIRE[:position] + bytes([value]) + WIRE[position + 1 :])


@settings(max_examples=500)
@given(st.data())
def test_no_foreign_exception_escapes_behind_a_right_checksum(data: st.DataObject) -> None:
    manifest, tensors = parts(WIRE)
    text = bytearray(dumped(manifest))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(text) - 1))
        text[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    message = reframed(bytes(text), tensors)
    try:
        decoded = decode_update(message)
    except FedseError:
        return
    assert encode_update(decoded) == message  # what is accepted has exactly one encoding


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.sampled_from(["client", "dtype", "meta", "round", "scalars", "tensors"]), json_values)
def test_no_manifest_value_makes_a_foreign_exception(key: str, value: Any) -> None:
    manifest, tensors = parts(WIRE)
    message = reframed(dumped(manifest | {key: value}), tensors)
    try:
        decoded = decode_update(message)
    except FedseError:
        return
    assert encode_update(decoded) == message


def test_every_truncation_is_refused() -> None:
    for length in range(len(WIRE)):
        refused(WIRE[:length])


def test_extra_bytes_are_refused() -> None:
    assert "checksum" in refused(WIRE + b"\0")
    manifest, tensors = parts(WIRE)
    assert "4 bytes follow after the last tensor" in refused(reframed(dumped(manifest), tensors + b"\0\0\0\0"))


def test_another_version_is_named() -> None:
    assert "version 2" in refused(WIRE[:6] + b"\x02\x00" + WIRE[8:])


def _tensor(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["tensors"][1].update(change)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_tensor(offset=0), "overlap"),
        (_tensor(offset=10**30), "overlap"),
        (_tensor(offset=-4), "whole number"),
        (_tensor(shape=[2**62, 2**62]), "should end at byte"),
        (_tensor(shape=[1] * 100), "two sizes"),
        (_tensor(shape=[0, 5]), "two sizes"),
        (_tensor(shape=[True, 5]), "whole number"),
        (_tensor(dtype="float64"), "must have the keys"),
        (lambda manifest: manifest.update(trajectories=3), "must have the keys"),
        (lambda manifest: manifest.pop("round"), "must have the keys"),
        (lambda manifest: manifest.update(dtype="bfloat16"), "instead of 'float32'"),
        (lambda manifest: manifest["scalars"].update(examples="many"), "finite number"),
        (lambda manifest: manifest["scalars"].update(examples=float("inf")), "Infinity"),
        (lambda manifest: manifest["tensors"].reverse(), "overlap"),
        (lambda manifest: manifest["tensors"][1].update(name=manifest["tensors"][0]["name"]), "twice"),
    ],
)
def test_a_manifest_that_lies_is_refused(change: Callable[[dict[str, Any]], None], why: str) -> None:
    manifest, tensors = parts(WIRE)
    change(manifest)
    assert why in refused(reframed(dumped(manifest), tensors))


def test_a_manifest_in_another_form_is_refused() -> None:
    manifest, tensors = parts(WIRE)
    assert "canonical" in refused(reframed(json.dumps(manifest).encode(), tensors))
    twice = dumped(manifest).replace(b'{"client":', b'{"client":"secret","client":', 1)
    assert "canonical" in refused(reframed(twice, tensors))


def test_deeply_nested_json_is_refused() -> None:
    assert "no JSON" in refused(reframed(b"[" * 100_000, b""))


def test_a_scalar_that_is_not_finite_cannot_be_sent() -> None:
    with pytest.raises(AdapterError, match="cannot be encoded"):
        encode_update(ClientUpdate("a", 1, random_state(0), {"examples": float("nan")}))
