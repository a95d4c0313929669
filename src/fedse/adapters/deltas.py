"""How an adapter is told by its difference from one that both sides have: four encodings of their tensors.

========  =====================================================  ====================================================
codec     what crosses of x, given the base b                    what the receiver gets
========  =====================================================  ====================================================
``fp32``  the bits of x ⊕ the bits of b                          x
``bf16``  x − b, rounded to bfloat16, but no finer than 1/128    b + that
          of the tensor's root mean square; to nearest even
``int8``  per row of x − b: scale s = max|·| / 127, codes        b + s · code
``int4``  per 64 values of x − b: scale s = max|·| / 7, codes    b + s · code
========  =====================================================  ====================================================

A row is a component of the rank, which is a row of A and a column of B: those are few and long, so that their scales
cost nothing.  Scales are bfloat16, which has float32's range.  The last block of a tensor may be shorter.

Every tensor becomes a few planes of bytes, and planes of one kind follow each other: bytes that are alike, such as all
exponents, then lie together, and zstd finds it.  Fractions of ``bf16`` lie in the order of their exponents: those of
small values have few bits that are not zero.  The sizes of all planes follow from the shapes, which the receiver
knows from its base, so that a payload cannot claim a size: what does not unpack to exactly that is refused before it is
unpacked.  The planes decide a payload's meaning, not the bytes that some version of zstd makes of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import zstandard

from fedse.adapters.state import SUFFIX_A, AdapterState
from fedse.errors import MessageError
from fedse.types import CodecName, FloatArray

CODECS: tuple[CodecName, ...] = get_args(CodecName)
#: Codecs that lose so much that what they lost is kept, and added to the next difference.
WITH_RESIDUALS: frozenset[CodecName] = frozenset({"int4"})

_BLOCK = 64
#: Bytes of a zstd block that is worth a table of frequencies of its own.
_LEAST_BLOCK = 1 << 10
# A repetition that zstd finds in a plane is chance, and costs more than it saves: what compresses are frequent bytes.
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6
)
_Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint16]


def alike(one: AdapterState, other: AdapterState) -> bool:
    """Whether an adapter can be told by its difference from another: same names, shapes and meta."""
    return one.meta == other.meta and _shapes(one) == _shapes(other)


def encode(codec: CodecName, base: AdapterState, adapter: AdapterState) -> bytes:
    """An adapter as its difference from a base.

    Args:
        codec: how exactly.
        base: that the receiver has.
        adapter: with the same names and shapes.

    Raises:
        MessageError: if a value, or the difference, is not finite or outside of the codec's range.
    """
    coder = _CODERS[codec]
    planes = []
    with np.errstate(over="ignore", invalid="ignore"):
        for name in _ordered(base.tensors):
            if not np.isfinite(adapter.tensors[name]).all():
                raise _unfit(name)
            planes.append(coder.encode(base.tensors[name], adapter.tensors[name]))
            if not np.isfinite(coder.decode(base.tensors[name], planes[-1])).all():
                raise _unfit(name)
    return _compress(coder, planes)


def decode(codec: CodecName, base: AdapterState, payload: bytes) -> AdapterState:
    """The adapter that :func:`encode` told; it has the meta of the base.

    Raises:
        MessageError: if the payload is not of the size that the base asks for, or of no adapter that could be encoded.
    """
    coder = _CODERS[codec]
    tensors: dict[str, FloatArray] = {}
    for name, planes in _decompress(coder, base, payload).items():
        with np.errstate(over="ignore", invalid="ignore"):
            array = coder.decode(base.tensors[name], planes)
        if not (coder.is_sound(planes, array.size) and np.isfinite(array).all()):
            raise _no_payload(f"{name} holds what {codec} never does")
        tensors[name] = array
    return AdapterState(tensors, base.meta)


def select(codec: CodecName, base: AdapterState, payload: bytes, names: Iterable[str]) -> bytes:
    """Of a payload only some tensors, coded as they are there.

    Raises:
        MessageError: if the payload is not of the size that the base asks for.
    """
    coder = _CODERS[codec]
    found = _decompress(coder, base, payload)
    return _compress(coder, [found[name] for name in _ordered(names)])


@dataclass(frozen=True)
class Told:
    """An adapter that was told.

    Attributes:
        adapter: as the receiver has it.
        payload: see :func:`encode`.
        lost: what rounding lost, to be added to what is told next; empty for codecs that keep nothing.
    """

    adapter: AdapterState
    payload: bytes
    lost: Mapping[str, FloatArray]


def tell(codec: CodecName, base: AdapterState, adapter: AdapterState, lost: Mapping[str, FloatArray]) -> Told:
    """Encode an adapter, and see what the receiver will have.

    With what is lost kept by whoever tells, the sum of all that was told never differs from the sum of all that was to
    be told by more than one rounding (error feedback: Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847).

    Args:
        codec: see :func:`encode`.
        base: likewise.
        adapter: likewise.
        lost: what rounding lost before; arrays of other shapes are of another adapter, and left out.

    Raises:
        MessageError: see :func:`encode`.
    """
    wanted = {
        name: array + lost[name] if name in lost and lost[name].shape == array.shape else array
        for name, array in adapter.tensors.items()
    }
    payload = encode(codec, base, AdapterState(wanted, adapter.meta))
    found = decode(codec, base, payload)
    kept = {name: wanted[name] - array for name, array in found.tensors.items()} if codec in WITH_RESIDUALS else {}
    return Told(found, payload, kept)


class _Coder(ABC):
    """One tensor's bytes.

    Attributes:
        sorts: the second plane lies in the order of the values in the first.
    """

    sorts: bool = False

    @abstractmethod
    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of its planes, in bytes."""

    @abstractmethod
    def encode(self, base: FloatArray, array: FloatArray) -> tuple[_Bytes, ...]:
        """Its planes."""

    @abstractmethod
    def decode(self, base: FloatArray, planes: Sequence[_Bytes]) -> FloatArray:
        """The tensor."""

    def is_sound(self, planes: Sequence[_Bytes], size: int) -> bool:  # noqa: ARG002
        """Whether the planes are such as are encoded, as far as the values do not show it."""
        return True


class _Lossless(_Coder):
    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (math.prod(shape),) * 4

    def encode(self, base: FloatArray, array: FloatArray) -> tuple[_Bytes, ...]:
        changed = np.ravel(array).view(np.uint32) ^ np.ravel(base).view(np.uint32)
        return tuple(np.ascontiguousarray(plane) for plane in changed.astype("<u4").view(np.uint8).reshape(-1, 4).T)

    def decode(self, base: FloatArray, planes: Sequence[_Bytes]) -> FloatArray:
        changed = np.stack(planes, axis=-1).view("<u4").ravel().astype(np.uint32)
        return (changed ^ np.ravel(base).view(np.uint32)).view(np.float32).reshape(base.shape)


class _Rounded(_Coder):
    sorts = True

    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (math.prod(shape),) * 2

    def encode(self, base: FloatArray, array: FloatArray) -> tuple[_Bytes, ...]:
        return _planes(_to_bfloat16(_coarse(np.ravel(array - base))))

    def decode(self, base: FloatArray, planes: Sequence[_Bytes]) -> FloatArray:
        return np.asarray(base + _to_float32(*planes).reshape(base.shape))


class _Scaled(_Coder):
    """Whole numbers from −largest to largest, times a scale for each group of values."""

    largest: int

    @abstractmethod
    def groups(self, array: FloatArray) -> FloatArray:
        """The values of a tensor as (groups, values); the last group is filled up with zeros."""

    @abstractmethod
    def ungrouped(self, groups: FloatArray, shape: Sequence[int]) -> FloatArray:
        """The inverse of :meth:`groups`."""

    @abstractmethod
    def code_bytes(self, codes: npt.NDArray[np.int8]) -> _Bytes:
        """Codes as bytes, in a row."""

    @abstractmethod
    def codes(self, plane: _Bytes, groups: int) -> npt.NDArray[np.int8]:
        """The inverse of :meth:`code_bytes`, of shape (groups, values)."""

    def encode(self, base: FloatArray, array: FloatArray) -> tuple[_Bytes, ...]:
        change = self.groups(array - base)
        scales = _to_bfloat16(np.abs(change).max(axis=1) / np.float32(self.largest))
        scale = _to_float32(*_planes(scales))[:, None]
        # A scale that is zero, or nearly, leaves codes beyond the largest, or none at all.
        codes = np.divide(change, scale, out=np.zeros_like(change), where=scale > 0)
        codes = np.clip(np.nan_to_num(np.rint(codes)), -self.largest, self.largest).astype(np.int8)
        return (*_planes(scales), self.code_bytes(codes))

    def decode(self, base: FloatArray, planes: Sequence[_Bytes]) -> FloatArray:
        scale = _to_float32(*planes[:2])[:, None]
        change = self.codes(planes[2], len(scale)).astype(np.float32) * scale
        return np.asarray(base + self.ungrouped(change, base.shape))

    def is_sound(self, planes: Sequence[_Bytes], size: int) -> bool:
        scale = _to_float32(*planes[:2])
        codes = self.codes(planes[2], len(scale))
        filled = np.abs(codes.ravel()[size:]).max(initial=0) > 0
        return bool((np.signbit(scale) == 0).all() and np.abs(codes.astype(int)).max() <= self.largest and not filled)


class _Rows(_Scaled):
    largest = 127

    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        rows = min(_matrix(shape))
        return rows, rows, math.prod(shape)

    def groups(self, array: FloatArray) -> FloatArray:
        matrix = array.reshape(_matrix(array.shape))
        return np.ascontiguousarray(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)

    def ungrouped(self, groups: FloatArray, shape: Sequence[int]) -> FloatArray:
        return (groups if groups.shape == _matrix(shape) else groups.T).reshape(tuple(shape))

    def code_bytes(self, codes: npt.NDArray[np.int8]) -> _Bytes:
        return codes.ravel().view(np.uint8)

    def codes(self, plane: _Bytes, groups: int) -> npt.NDArray[np.int8]:
        return plane.view(np.int8).reshape(groups, -1)


class _Blocks(_Scaled):
    largest = 7

    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        blocks = -(-math.prod(shape) // _BLOCK)
        return blocks, blocks, blocks * _BLOCK // 2

    def groups(self, array: FloatArray) -> FloatArray:
        flat = array.ravel()
        return np.pad(flat, (0, -flat.size % _BLOCK)).reshape(-1, _BLOCK)

    def ungrouped(self, groups: FloatArray, shape: Sequence[int]) -> FloatArray:
        return groups.ravel()[: math.prod(shape)].reshape(tuple(shape))

    def code_bytes(self, codes: npt.NDArray[np.int8]) -> _Bytes:
        low, high = (codes.ravel() + 8).astype(np.uint8).reshape(-1, 2).T
        return np.asarray(low | high << 4, dtype=np.uint8)

    def codes(self, plane: _Bytes, groups: int) -> npt.NDArray[np.int8]:
        return (np.stack([plane & 15, plane >> 4], axis=-1).astype(np.int8) - np.int8(8)).reshape(groups, _BLOCK)


_CODERS: Mapping[CodecName, _Coder] = {"fp32": _Lossless(), "bf16": _Rounded(), "int8": _Rows(), "int4": _Blocks()}


def _coarse(change: FloatArray) -> FloatArray:
    """Where bfloat16 is finer than 1/128 of the root mean square, to the nearest power of two, multiples of that.

    Small values need no more exactness than large ones: what matters is the error of the whole change.
    """
    size = math.sqrt(np.square(change, dtype=np.float64).mean())
    grid = np.float32(2.0 ** (round(math.log2(size)) - 7)) if 0 < size < math.inf else np.float32(0)
    if grid < np.finfo(np.float32).tiny:
        return change
    return np.where(np.abs(change) < 128 * grid, np.rint(change / grid) * grid, change)


def _to_bfloat16(array: FloatArray) -> _Words:
    """To nearest, ties to even; what is too large becomes infinite."""
    bits = array.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) >> 16).astype(np.uint16)


def _planes(words: _Words) -> tuple[_Bytes, _Bytes]:
    """Exponents, and fractions with signs.  Of the two only the exponents are alike."""
    return (words >> 7 & 0xFF).astype(np.uint8), (words << 1 & 0xFE | words >> 15).astype(np.uint8)


def _to_float32(exponents: _Bytes, rest: _Bytes) -> FloatArray:
    wide = rest.astype(np.uint32)
    return ((wide & 1) << 31 | exponents.astype(np.uint32) << 23 | wide >> 1 << 16).view(np.float32)


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def _ordered(names: Iterable[str]) -> list[str]:
    """All A before all B: their differences are of different size."""
    return sorted(names, key=lambda name: (not name.endswith(SUFFIX_A), name))


def _shapes(state: AdapterState) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in state.tensors.items()}


def _compress(coder: _Coder, tensors: Sequence[Sequence[_Bytes]]) -> bytes:
    kinds = [np.concatenate(kind) for kind in zip(*tensors, strict=True)]
    # Bytes that are alike make a block, whose frequencies have nothing to do with those of the next.
    blocks = kinds
    if coder.sorts:
        first, second, *others = kinds
        ends = np.cumsum(np.bincount(first, minlength=256))
        blocks = [first, *np.split(second[np.argsort(first, kind="stable")], ends[:-1]), *others]
    compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compressobj(size=sum(map(len, kinds)))
    parts: list[bytes] = []
    for block in blocks:
        parts.append(compressor.compress(block.tobytes()))
        if len(block) >= _LEAST_BLOCK:
            parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join(parts) + compressor.flush()


def _decompress(coder: _Coder, base: AdapterState, payload: bytes) -> dict[str, list[_Bytes]]:
    sizes = {name: coder.sizes(base.tensors[name].shape) for name in _ordered(base.tensors)}
    total = sum(map(sum, sizes.values()))
    try:
        frame = zstandard.get_frame_parameters(payload)
        if frame.content_size != total:
            raise _no_payload(f"it says that it has {frame.content_size} bytes, but {total} are wanted")
        window = max(total, 1 << 10)  # the least that zstd takes
        content = zstandard.ZstdDecompressor(max_window_size=window).decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as cause:
        raise _no_payload(str(cause)) from cause
    lengths = [sum(kind) for kind in zip(*sizes.values(), strict=True)]
    kinds = np.split(np.frombuffer(content, np.uint8), np.cumsum(lengths)[:-1])
    if coder.sorts:
        ordered = kinds[1]
        kinds[1] = np.empty_like(ordered)
        kinds[1][np.argsort(kinds[0], kind="stable")] = ordered
    ends = [np.cumsum(kind)[:-1] for kind in zip(*sizes.values(), strict=True)]
    planes = [np.split(kind, end) for kind, end in zip(kinds, ends, strict=True)]
    return {name: list(of_one) for name, of_one in zip(sizes, zip(*planes, strict=True), strict=True)}


def _unfit(name: str) -> MessageError:
    return MessageError(
        f"the message cannot be encoded: {name}, or its change, is not finite", "check the training that made it"
    )


def _no_payload(why: str) -> MessageError:
    return MessageError(
        f"these bytes are no change of an adapter: {why}", "send the message again, whole and unchanged"
    )
