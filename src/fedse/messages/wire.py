"""How a message becomes bytes: its fields go into the body of a packed buffer, its tensors into the arrays.

An adapter travels whole, or as its difference from one that the receiver has (:mod:`fedse.adapters.deltas`).  Whoever
encodes a message says which adapters of it are told so, and whoever decodes it, which adapters there are: the message
itself has whole adapters on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationError, ValidationInfo
from pydantic_core.core_schema import SerializationInfo

from fedse.adapters.codec import LIMIT, Arrays, has_manifest, manifest_bytes, pack, refuse, unpack
from fedse.adapters.deltas import decode
from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import MessageError, UnknownAdapterError
from fedse.types import CodecName, FloatArray


class Part(BaseModel):
    """A part of a message: frozen, checked strictly, without room for anything that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Delta:
    """How an adapter is told by another.

    Attributes:
        base: digest of the other.
        codec: how exactly.
        payload: the difference, see :func:`fedse.adapters.deltas.encode`; empty if there is none.
    """

    base: str
    codec: CodecName = "fp32"
    payload: bytes = b""


#: Digest of an adapter → how it is told.  Others travel whole.
Deltas = Mapping[str, Delta]
#: The adapter of a digest; None if it is not here.
Find = Callable[[str], AdapterState | None]


@dataclass
class _Writing:
    """What a message is encoded with."""

    deltas: Deltas
    arrays: dict[str, FloatArray | bytes] = field(default_factory=dict)

    def add(self, arrays: Arrays) -> str:
        """Put arrays under a prefix of their own, which stands in the body; none has an empty one."""
        prefix = str(len({name.partition("/")[0] for name in self.arrays}))
        self.arrays.update({f"{prefix}/{name}": array for name, array in arrays.items()})
        return prefix if arrays else ""


@dataclass
class _Reading:
    """What a message is decoded with, and how its adapters were told."""

    arrays: Arrays
    find: Find
    codec: CodecName | None
    skips: bool = False
    deltas: dict[str, Delta] = field(default_factory=dict)

    def under(self, prefix: Any) -> Arrays:
        """The arrays under a prefix.

        Raises:
            ValueError: if it is none.
        """
        if not isinstance(prefix, str):
            raise ValueError("tensors wanted")
        if not prefix:
            return {}
        start = f"{prefix}/"
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def tensors(self, prefix: Any) -> Mapping[str, FloatArray]:
        """The tensors under a prefix; raises as :meth:`under` does."""
        found = {name: array for name, array in self.under(prefix).items() if not isinstance(array, bytes)}
        if len(found) != len(self.under(prefix)):
            raise ValueError("tensors wanted")
        return found


class Packed(Part):
    """A whole message."""

    def encode(self, deltas: Deltas | None = None) -> bytes:
        """The bytes of the message; equal messages, told in the same way, have equal bytes.

        Raises:
            MessageError: if a field holds what JSON cannot express.
        """
        writing = _Writing(deltas or {})
        return pack(self.model_dump(mode="json", context=writing), writing.arrays)

    @classmethod
    def decode(
        cls, data: bytes, find: Find = lambda _: None, *, codec: CodecName | None = None, limit: int = LIMIT
    ) -> Self:
        """The inverse of :meth:`encode`; accepts only the bytes that it makes.

        Args:
            data: the bytes.
            find: has the adapters by which those of the message may be told.
            codec: how these must be told; default: in any way.
            limit: how many bytes the message may have.  No adapter in it takes more than that, or than its base.

        Raises:
            UnknownAdapterError: if an adapter is told by one that is not found.
            MessageError: saying what is wrong with the bytes.
        """
        body, arrays = unpack(data, limit)
        reading = _Reading(arrays, find, codec)
        message = cls._read(body, reading)
        # Its arrays are those of the manifest, which says all else: to compare it spares encoding them again.
        writing = _Writing(reading.deltas)
        if not has_manifest(data, manifest_bytes(message.model_dump(mode="json", context=writing), writing.arrays)):
            refuse("it is not in canonical form")
        return message

    @classmethod
    def outline(cls, data: bytes, limit: int = LIMIT) -> Self:
        """The message without its adapters, for which none need be here; raises as :meth:`decode` does."""
        body, arrays = unpack(data, limit)
        return cls._read(body, _Reading(arrays, lambda _: None, None, skips=True))

    @classmethod
    def _read(cls, body: Any, reading: _Reading) -> Self:
        try:
            return cls.model_validate_json(json.dumps(body), context=reading)
        except ValidationError as cause:
            first = cause.errors(include_url=False, include_input=False)[0]
            refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _pack_tensors(tensors: Mapping[str, FloatArray], info: SerializationInfo) -> str:
    return _writing(info).add(tensors)


def _unpack_tensors(prefix: Any, info: ValidationInfo) -> Mapping[str, FloatArray]:
    if isinstance(prefix, Mapping) and info.mode == "python":
        return {name: np.asarray(array, dtype=np.float32) for name, array in prefix.items()}
    return _reading(info).tensors(prefix)


def _pack_adapter(state: AdapterState, info: SerializationInfo) -> dict[str, Any]:
    writing = _writing(info)
    delta = writing.deltas.get(state.digest)
    if delta is None:
        told: dict[str, Any] = {"tensors": writing.add(state.tensors)}
    else:
        change = writing.add({"": delta.payload} if delta.payload else {})
        told = {"base": delta.base, "codec": delta.codec, "digest": state.digest, "change": change}
    return told | {
        "alpha": float(state.meta.alpha),
        "base_model": state.meta.base_model,
        "rank": state.meta.rank,
        "target_modules": list(state.meta.target_modules),
    }


def _unpack_adapter(value: Any, info: ValidationInfo) -> AdapterState | None:
    if isinstance(value, AdapterState):
        return value
    match value:
        case {
            "alpha": float(alpha),
            "base_model": str(base_model),
            "rank": int(rank),
            "target_modules": [*targets],
            **told,
        } if rank > 0 and rank is not True and alpha > 0 and _are_words(targets):
            meta, reading = AdapterMeta(rank, alpha, tuple(targets), base_model), _reading(info)
            if reading.skips:
                return None
            match told:
                case {"tensors": tensors} if len(told) == 1:
                    return AdapterState(reading.tensors(tensors), meta)
                case {
                    "base": str(base),
                    "codec": "fp32" | "bf16" | "int8" | "int4" as codec,
                    "digest": str(digest),
                    "change": change,
                } if len(told) == 4:
                    return _told_by(base, codec, digest, change, meta, reading)
    raise ValueError("an adapter wanted: alpha, base_model, rank and target_modules, with tensors, or told by another")


def _told_by(
    base: str, codec: CodecName, digest: str, change: Any, meta: AdapterMeta, reading: _Reading
) -> AdapterState:
    payload = reading.under(change).get("", b"")
    if not isinstance(payload, bytes) or bool(payload) != bool(change):
        raise ValueError("a change wanted")
    if payload and codec != (reading.codec or codec):
        raise ValueError(f"it is told in {codec}, but {reading.codec} was asked for")
    found = reading.find(base)
    if found is None:
        raise UnknownAdapterError(
            f"the message tells an adapter by another, {base[:12]}…, which is not here", "send the whole adapter"
        )
    state = AdapterState((decode(codec, found, payload) if payload else found).tensors, meta)
    if state.digest != digest:
        raise ValueError("the adapter is not the one that was told")
    reading.deltas[digest] = Delta(base, codec, payload)
    return state


def _are_words(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _writing(info: SerializationInfo) -> _Writing:
    if not isinstance(info.context, _Writing):
        raise MessageError("tensors are only encoded as a part of a message", "call encode() of the message")
    return info.context


def _reading(info: ValidationInfo) -> _Reading:
    if not isinstance(info.context, _Reading):
        raise ValueError("tensors wanted")
    return info.context


#: Fields of these types travel among the arrays of a message.
Tensors = Annotated[Mapping[str, FloatArray], PlainValidator(_unpack_tensors), PlainSerializer(_pack_tensors)]
Adapter = Annotated[AdapterState, PlainValidator(_unpack_adapter), PlainSerializer(_pack_adapter)]
