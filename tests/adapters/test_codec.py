"""One packed buffer: what was packed comes back, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.adapters.codec import VERSION, pack, unpack
from fedse.errors import MessageError
from fedse.types import FloatArray

HEADER = struct.Struct("<6sHI")
ARRAYS = {
    "0/b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "0/a": np.array([[np.nan, np.inf, -0.0, 1e-45]], np.float32),
    "1/c": np.ones((1, 2, 1), np.float32),
}
BODY = {"site": "alpha", "told": [1, 2.5, None, {"ä": True}]}
WIRE = pack(BODY, ARRAYS)


def reframed(manifest: bytes, tensors: bytes) -> bytes:
    """A message with a right header and checksum around any content."""
    message = HEADER.pack(b"FEDSE\0", VERSION, len(manifest)) + manifest + tensors
    return message + hashlib.sha256(message).digest()


def parts(wire: bytes) -> tuple[dict[str, Any], bytes]:
    length = HEADER.unpack_from(wire)[2]
    return json.loads(wire[HEADER.size : HEADER.size + length]), wire[HEADER.size + length : -32]


def dumped(manifest: Any) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def refused(data: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        unpack(data)
    assert caught.value.mend
    return caught.value.what


def accepted_only_as_packed(data: bytes) -> None:
    """What is accepted has exactly one encoding, and what is not is a MessageError."""
    try:
        body, arrays = unpack(data)
    except MessageError:
        return
    assert pack(body, arrays) == data


def same(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> bool:
    return [(name, array.shape, array.tobytes()) for name, array in first.items()] == [
        (name, array.shape, array.tobytes()) for name, array in second.items()
    ]


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
tensors = st.builds(
    lambda shape, seed: np.random.default_rng(seed).normal(size=shape).astype(np.float32),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 100),
)


@given(json_values, st.dictionaries(names, tensors, max_size=4))
def test_unpacking_undoes_packing(body: Any, arrays: dict[str, FloatArray]) -> None:
    wire = pack(body, arrays)
    found, unpacked = unpack(wire)
    assert found == body
    assert same(unpacked, arrays)
    assert pack(found, unpacked) == wire


def test_special_values_survive_bit_for_bit_in_their_order() -> None:
    _, arrays = unpack(WIRE)
    assert same(arrays, ARRAYS)
    assert not any(array.flags.writeable for array in arrays.values())


def test_arrays_need_not_lie_in_one_piece_or_be_little_endian() -> None:
    strided = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    for array in (strided, strided.astype(">f4"), strided.astype(np.float64)):
        assert unpack(pack(None, {"x": array}))[1]["x"].tolist() == strided.tolist()


def test_a_message_is_little_more_than_its_arrays() -> None:
    arrays = {f"0/{number}": np.zeros(100, np.float32) for number in range(10)}
    assert len(pack({}, arrays)) < 4000 + 400


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)


@settings(max_examples=300)
@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(WIRE) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != WIRE[position]))
    refused(WIRE[:position] + bytes([value]) + WIRE[position + 1 :])


def test_every_flipped_bit_is_refused() -> None:
    for position in range(len(WIRE)):
        for bit in range(8):
            refused(WIRE[:position] + bytes([WIRE[position] ^ 1 << bit]) + WIRE[position + 1 :])


@settings(max_examples=500)
@given(st.data())
def test_no_foreign_exception_escapes_behind_a_right_checksum(data: st.DataObject) -> None:
    manifest, tensors = parts(WIRE)
    text = bytearray(dumped(manifest))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(text) - 1))
        text[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    accepted_only_as_packed(reframed(bytes(text), tensors))


@settings(max_examples=300)
@given(st.sampled_from(["arrays", "body", "other"]), json_values)
def test_no_manifest_value_makes_a_foreign_exception(key: str, value: Any) -> None:
    manifest, tensors = parts(WIRE)
    accepted_only_as_packed(reframed(dumped(manifest | {key: value}), tensors))


@settings(max_examples=300)
@given(st.lists(st.lists(json_values, max_size=3) | json_values, max_size=3), st.binary(max_size=40))
def test_no_list_of_arrays_makes_a_foreign_exception(entries: list[Any], tensors: bytes) -> None:
    accepted_only_as_packed(reframed(dumped({"arrays": entries, "body": 1}), tensors))


def test_every_truncation_is_refused() -> None:
    for length in range(len(WIRE)):
        refused(WIRE[:length])


def test_every_truncation_behind_a_right_checksum_is_refused() -> None:
    content = WIRE[:-32]
    for length in range(len(content)):
        refused(content[:length] + hashlib.sha256(content[:length]).digest())


def test_extra_bytes_are_refused() -> None:
    assert "checksum" in refused(WIRE + b"\0")
    manifest, tensors = parts(WIRE)
    assert "4 bytes follow after the last array" in refused(reframed(dumped(manifest), tensors + b"\0\0\0\0"))


def test_another_version_is_named() -> None:
    for version in (0, 1, VERSION + 1):
        assert f"version {version}" in refused(WIRE[:6] + version.to_bytes(2, "little") + WIRE[8:])


def _array(**change: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        name, shape = manifest["arrays"][1]
        manifest["arrays"][1] = [change.get("name", name), change.get("shape", shape)]

    return apply


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_array(shape=[2**62, 2**62]), "goes beyond the"),
        (_array(shape=[10**4000, 10**4000]), "goes beyond the"),
        (_array(shape=[10**30]), "goes beyond the"),
        (_array(shape=[2**40] * 30), "goes beyond the"),
        (_array(shape=[2, 4]), "goes beyond the"),
        (_array(shape=[1, 3]), "4 bytes follow"),
        (_array(shape=[0, 4]), "sizes of at least 1"),
        (_array(shape=[-1, -4]), "sizes of at least 1"),
        (_array(shape=[True, 4]), "sizes of at least 1"),
        (_array(shape=[1.0, 4]), "sizes of at least 1"),
        (_array(shape=[]), "sizes of at least 1"),
        (_array(shape="14"), "sizes of at least 1"),
        (_array(shape=[1] * 100 + [4]), "1 to 32 sizes"),
        (_array(name=7), "must be a printable name"),
        (_array(name="0/b"), "twice"),
        (_array(name="a\ud800"), "must be a printable name"),
        (lambda manifest: manifest.update(trajectories=3), "must have the keys"),
        (lambda manifest: manifest.pop("body"), "must have the keys"),
        (lambda manifest: manifest.update(arrays={}), "arrays is no list"),
        (lambda manifest: manifest["arrays"].append(["x"]), "must be a printable name"),
        (lambda manifest: manifest["arrays"].append(["x", [1], "float64"]), "must be a printable name"),
        (lambda manifest: manifest.update(body=float("inf")), "Infinity"),
        (lambda manifest: manifest.update(body=float("nan")), "NaN"),
    ],
)
def test_a_manifest_that_lies_is_refused(change: Callable[[dict[str, Any]], None], why: str) -> None:
    manifest, tensors = parts(WIRE)
    change(manifest)
    assert why in refused(reframed(dumped(manifest), tensors))


def test_a_manifest_in_another_form_is_refused() -> None:
    manifest, tensors = parts(WIRE)
    assert "canonical" in refused(reframed(json.dumps(manifest).encode(), tensors))
    twice = dumped(manifest).replace(b'{"arrays":', b'{"arrays":"secret","arrays":', 1)
    assert "canonical" in refused(reframed(twice, tensors))
    for number in (b"1e0", b"1.00", b"-0", b"1e999", b"1E5"):
        assert "canonical" in refused(reframed(b'{"arrays":[],"body":%s}' % number, b""))
    assert "canonical" in refused(reframed('{"arrays":[],"body":"ä"}'.encode(), b""))
    for no_json in (b"", b"[]", b"{", b"\xff", b"[1]", b"null", b'{"arrays":[],"body":' + b"1" * 5000 + b"}"):
        refused(reframed(no_json, b""))


@pytest.mark.parametrize("depth", [100, 900, 990, 1000, 1500, 3000, 20_000, 100_000])
def test_deeply_nested_json_is_no_foreign_exception(depth: int) -> None:
    accepted_only_as_packed(reframed(b'{"arrays":[],"body":' + b"[" * depth + b"]" * depth + b"}", b""))
    accepted_only_as_packed(reframed(b'{"arrays":' + b"[" * depth + b"]" * depth + b',"body":1}', b""))
    refused(reframed(b"[" * depth, b""))


@pytest.mark.parametrize(
    ("body", "arrays"),
    [
        (float("nan"), {}),
        ({"x": float("inf")}, {}),
        ({"x": object()}, {}),
        ({1, 2}, {}),
        (None, {"x": np.float32(3)}),
        (None, {"x": np.zeros((0, 3), np.float32)}),
        (None, {"a\ud800": np.zeros(1, np.float32)}),
        (None, {"x": np.zeros((1,) * 33, np.float32)}),
    ],
)
def test_what_could_not_be_read_cannot_be_sent(body: Any, arrays: Any) -> None:
    with pytest.raises(MessageError, match="cannot be encoded") as caught:
        pack(body, {name: np.asarray(array) for name, array in arrays.items()})
    assert caught.value.mend
