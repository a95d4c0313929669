"""An adapter told by its difference from another: how exactly it comes back, and what is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.adapters.deltas import CODECS, WITH_RESIDUALS, alike, decode, encode, select, tell
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState
from fedse.errors import MessageError
from fedse.types import CodecName, FloatArray
from helpers.small_adapters import META, random_state

A, B = f"m.q{SUFFIX_A}", f"m.q{SUFFIX_B}"
codecs = st.sampled_from(CODECS)


def pair(draws: st.DataObject) -> tuple[AdapterState, AdapterState]:
    """A base, and an adapter that has moved from it by any order of magnitude."""
    rank, wide, high = (draws.draw(st.integers(1, most)) for most in (4, 70, 70))
    random = np.random.default_rng(draws.draw(st.integers(0, 1000)))
    shapes = {A: (rank, wide), B: (high, rank)}
    sizes = {name: 10.0 ** draws.draw(st.integers(-30, 3)) for name in ("base", "change")}
    base = {name: (sizes["base"] * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    moved = {
        name: (array + sizes["change"] * random.normal(size=array.shape)).astype(np.float32)
        for name, array in base.items()
    }
    meta = replace(META, rank=rank)
    return AdapterState(base, meta), AdapterState(moved, meta)


def rows(array: FloatArray) -> FloatArray:
    """One component of the rank a row."""
    return array if array.shape[0] <= array.shape[1] else array.T


def blocks(array: FloatArray) -> FloatArray:
    flat = array.ravel()
    return np.pad(flat, (0, -flat.size % 64)).reshape(-1, 64)


@given(codecs, st.data())
@settings(max_examples=300)
def test_what_comes_back_is_as_close_as_the_codec_says(codec: CodecName, draws: st.DataObject) -> None:
    base, adapter = pair(draws)
    found = decode(codec, base, encode(codec, base, adapter))
    assert alike(found, adapter)
    for name, array in adapter.tensors.items():
        change = (array - base.tensors[name]).astype(np.float64)
        error = np.abs(found.tensors[name].astype(np.float64) - array)
        # The sum of base and change is rounded to float32, and there is a smallest float32.
        sums = (np.abs(array) + np.abs(base.tensors[name]) + np.abs(change)) * 2**-23 + 1e-44
        # Scales are rounded to bfloat16, which moves the largest code by 1/256 of itself.
        match codec:
            case "fp32":
                assert found.tensors[name].tobytes() == array.tobytes()
            case "bf16":
                finest = np.sqrt((change**2).mean()) * 2**-6.5  # its half is lost at most
                assert (error <= np.maximum(np.abs(change) * 2**-8, finest / 2) + 1e-39 + sums).all()
            case "int8":
                step = rows(np.abs(change)).max(axis=1, keepdims=True) / 127
                assert (rows(error) <= step * (0.5 + 0.5) + 1e-39 * 127 + rows(sums)).all()
            case "int4":
                step = blocks(np.abs(change)).max(axis=1, keepdims=True) / 7
                assert (blocks(error) <= step * (0.5 + 0.04) + 1e-39 * 7 + blocks(sums)).all()


@given(codecs, st.data())
def test_a_part_of_a_payload_is_the_payload_of_the_part(codec: CodecName, draws: st.DataObject) -> None:
    base, adapter = pair(draws)
    payload = encode(codec, base, adapter)
    part = AdapterState({A: base.tensors[A]}, base.meta)
    found = decode(codec, part, select(codec, base, payload, [A]))
    assert found.tensors[A].tobytes() == decode(codec, base, payload).tensors[A].tobytes()


@pytest.mark.parametrize("codec", CODECS)
def test_no_change_is_no_change(codec: CodecName) -> None:
    base = random_state(1)
    assert decode(codec, base, encode(codec, base, base)).digest == base.digest


@pytest.mark.parametrize("codec", CODECS)
def test_equal_changes_have_equal_bytes(codec: CodecName) -> None:
    assert encode(codec, random_state(1), random_state(2)) == encode(codec, random_state(1), random_state(2))


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    """1 + 2⁻⁸ lies halfway between 1 and 1 + 2⁻⁷, and 1 + 3·2⁻⁸ halfway between 1 + 2⁻⁷ and 1 + 2⁻⁶."""
    values = np.array([[1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8]], np.float32)
    base = AdapterState({A: np.zeros((1, 4), np.float32)}, META)
    found = decode("bf16", base, encode("bf16", base, AdapterState({A: values}, META)))
    assert found.tensors[A].tolist() == [[1, 1 + 2**-6, 1 + 2**-7, -1]]


def test_small_values_are_rounded_no_finer_than_those_of_the_usual_size() -> None:
    random = np.random.default_rng(5)
    values = np.append(random.uniform(0, 1.5, 1000), [random.uniform(4, 8)]).astype(np.float32)[None]
    assert 2**-0.5 < np.sqrt((values**2).mean()) < 2**0.5
    base = AdapterState({A: np.zeros_like(values)}, META)
    found = decode("bf16", base, encode("bf16", base, AdapterState({A: values}, META))).tensors[A]
    large = values >= 1
    assert (found[large] == torch.tensor(values).bfloat16().float().numpy()[large]).all()
    assert (found[~large] == np.rint(values[~large] * 128) / 128).all()


def test_a_change_of_one_size_takes_what_the_codec_says() -> None:
    """Bytes of fp32 over bytes told, for normal changes, whose bits but for exponents cannot be compressed."""
    random = np.random.default_rng(0)
    base = AdapterState({A: random.normal(size=(8, 4096)).astype(np.float32)}, replace(META, rank=8))
    change = 1e-3 * random.normal(size=(8, 4096)).astype(np.float32)
    adapter = AdapterState({A: base.tensors[A] + change}, base.meta)
    ratios = {codec: base.nbytes / len(encode(codec, base, adapter)) for codec in CODECS}
    assert 1 < ratios["fp32"] < 3.3 < ratios["bf16"] < 4 < ratios["int8"] < 5 < 8 < ratios["int4"] < 9


class TestResiduals:
    @pytest.mark.parametrize("codec", CODECS)
    def test_they_are_kept_for_the_codec_that_needs_them(self, codec: CodecName) -> None:
        assert bool(tell(codec, random_state(1), random_state(2), {}).lost) == (codec in WITH_RESIDUALS)

    def test_all_that_was_told_adds_up_to_all_that_was_to_be_told_but_for_the_last_rounding(self) -> None:
        """Each round's change is told from the base of its own, as a site tells its updates."""
        random = np.random.default_rng(3)
        lost: dict[str, FloatArray] = {}
        wanted, told, without = (np.zeros((2, 5)) for _ in range(3))
        base = AdapterState({A: np.zeros((2, 5), np.float32)}, META)
        for _ in range(50):
            # One value is so small beside the others that rounding alone would lose it every time.
            change = np.where(np.arange(10).reshape(2, 5) == 3, 0.06, random.uniform(0.9, 1, (2, 5)))
            adapter = AdapterState({A: change.astype(np.float32)}, META)
            found = tell("int4", base, adapter, lost)
            lost = dict(found.lost)
            wanted += adapter.tensors[A]
            told += found.adapter.tensors[A]
            without += tell("int4", base, adapter, {}).adapter.tensors[A]
        assert np.abs(told - wanted).max() < 0.1
        assert np.abs(told + lost[A] - wanted).max() < 1e-4
        assert without[0, 3] == 0 < wanted[0, 3] - 2

    def test_those_of_another_adapter_are_left_out(self) -> None:
        lost: dict[str, FloatArray] = {name: np.ones((9, 9), np.float32) for name in random_state(1).tensors}
        lost |= {"x": np.ones(1, np.float32)}
        plain, told = (tell("int4", random_state(1), random_state(2), before) for before in ({}, lost))
        assert (told.payload, told.adapter.digest) == (plain.payload, plain.adapter.digest)


class TestRefused:
    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_not_told(self, codec: CodecName, value: float) -> None:
        adapter = AdapterState({A: np.array([[1, value]], np.float32)}, META)
        base = AdapterState({A: np.zeros((1, 2), np.float32)}, META)
        with pytest.raises(MessageError, match="not finite"):
            encode(codec, base, adapter)

    @pytest.mark.parametrize("codec", ["bf16", "int8", "int4"])
    def test_nor_what_would_not_be_finite_there(self, codec: CodecName) -> None:
        most = np.finfo(np.float32).max
        ends = (AdapterState({A: np.full((1, 2), value, np.float32)}, META) for value in (-most, most))
        with pytest.raises(MessageError, match="not finite"):
            encode(codec, *ends)

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_payload_of_another_size_is_refused_before_it_is_unpacked(self, codec: CodecName) -> None:
        base = random_state(1)
        bomb = zstandard.ZstdCompressor(level=19).compress(bytes(10**9 // 4))
        assert len(bomb) < 100_000
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10**6))
        tracemalloc.start()
        for payload in (bomb, frame, _claiming(10 * 2**30), b"", bomb[:5]):
            with pytest.raises(MessageError, match="no change of an adapter"):
                decode(codec, base, payload)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_payload_that_lies_about_its_size_is_refused(self, codec: CodecName) -> None:
        base = random_state(1)
        payload = encode(codec, base, random_state(2))
        size = zstandard.frame_content_size(payload)
        longer = zstandard.ZstdCompressor().compress(bytes(250))
        assert (longer[4], size) == (0x20, size)  # one byte has the size
        lying = longer[:5] + bytes([size % 256]) + longer[6:]
        for wrong in (lying, payload + b"\0", payload + payload, payload[:-1]):
            with pytest.raises(MessageError, match="no change of an adapter"):
                decode(codec, base, wrong)

    @pytest.mark.parametrize(
        ("codec", "change"),
        [
            ("bf16", lambda planes: b"\xff" + planes[1:]),  # an infinite value
            ("int8", lambda planes: b"\xff" + planes[1:]),  # an infinite scale
            ("int8", lambda planes: planes[:2] + b"\x01\x00" + planes[4:]),  # a scale below zero
            ("int8", lambda planes: planes[:-1] + b"\x80"),  # −128
            ("int4", lambda planes: planes[:2] + b"\x80" + planes[3:]),  # −8
            ("int4", lambda planes: planes[:-1] + b"\x98"),  # behind the last value
        ],
    )
    def test_what_no_encoder_makes_is_refused(self, codec: CodecName, change: Callable[[bytes], bytes]) -> None:
        base, adapter = (AdapterState({A: np.full((2, 5), value, np.float32)}, META) for value in (0, 1))
        planes = zstandard.decompress(encode(codec, base, adapter))
        assert (
            decode(codec, base, _compressed(planes)).digest == decode(codec, base, encode(codec, base, adapter)).digest
        )
        with pytest.raises(MessageError, match="holds what"):
            decode(codec, base, _compressed(change(planes)))

    def test_the_bytes_that_zstd_makes_do_not_matter(self) -> None:
        base, adapter = random_state(1), random_state(2)
        payload = encode("bf16", base, adapter)
        other = zstandard.ZstdCompressor(level=19, write_checksum=True).compress(zstandard.decompress(payload))
        assert other != payload
        assert decode("bf16", base, other).digest == decode("bf16", base, payload).digest


@pytest.mark.parametrize("codec", CODECS)
def test_ten_thousand_changed_payloads_raise_nothing_else_and_allocate_little(codec: CodecName) -> None:
    base = random_state(1)
    payload = encode(codec, base, random_state(2))
    planes = zstandard.decompress(payload)
    random = np.random.default_rng(7)
    accepted = 0
    tracemalloc.start()
    for number in range(10_000):
        # Every other one with right compression around wrong content.
        wrong = bytearray(planes if number % 2 else payload)
        for _ in range(random.integers(1, 4)):
            place = random.integers(len(wrong))
            wrong[place : place + random.integers(0, 3)] = random.bytes(int(random.integers(0, 3)))
        try:
            found = decode(codec, base, _compressed(bytes(wrong)) if number % 2 else bytes(wrong))
        except MessageError:
            continue
        accepted += 1
        assert all(np.isfinite(array).all() for array in found.tensors.values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < accepted < 10_000
    assert peak < 500_000


def _compressed(planes: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(planes)


def _claiming(size: int) -> bytes:
    """A frame whose header says so."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
