"""How a message becomes bytes: its fields go into the body of a packed buffer, its tensors into the arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationError, ValidationInfo
from pydantic_core.core_schema import SerializationInfo

from fedse.adapters.codec import pack, refuse, unpack
from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import MessageError
from fedse.types import FloatArray


class Part(BaseModel):
    """A part of a message: frozen, checked strictly, without room for anything that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Packed(Part):
    """A whole message."""

    def encode(self) -> bytes:
        """The bytes of the message; equal messages have equal bytes.

        Raises:
            MessageError: if a field holds what JSON cannot express.
        """
        arrays: dict[str, FloatArray] = {}
        return pack(self.model_dump(mode="json", context=arrays), arrays)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of :meth:`encode`; accepts only the bytes that it makes.

        Raises:
            MessageError: saying what is wrong with the bytes.
        """
        body, arrays = unpack(data)
        try:
            message = cls.model_validate_json(json.dumps(body), context=arrays)
        except ValidationError as cause:
            first = cause.errors(include_url=False, include_input=False)[0]
            refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        if message.encode() != data:
            refuse("it is not in canonical form")
        return message


def _pack_tensors(tensors: Mapping[str, FloatArray], info: SerializationInfo) -> str:
    """Put tensors among the arrays of the message, under a prefix of their own, which stands in the body."""
    arrays = info.context
    if not isinstance(arrays, dict):
        raise MessageError("tensors are only encoded as a part of a message", "call encode() of the message")
    prefix = str(len({name.partition("/")[0] for name in arrays}))
    arrays.update({f"{prefix}/{name}": array for name, array in tensors.items()})
    return prefix if tensors else ""


def _unpack_tensors(prefix: Any, info: ValidationInfo) -> Mapping[str, FloatArray]:
    if isinstance(prefix, Mapping) and info.mode == "python":
        return {name: np.asarray(array, dtype=np.float32) for name, array in prefix.items()}
    if not isinstance(prefix, str) or not isinstance(info.context, dict):
        raise ValueError("tensors wanted")
    if not prefix:
        return {}
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in info.context.items() if name.startswith(start)}


def _pack_adapter(state: AdapterState, info: SerializationInfo) -> dict[str, Any]:
    return {"tensors": _pack_tensors(state.tensors, info)} | {
        "alpha": float(state.meta.alpha),
        "base_model": state.meta.base_model,
        "rank": state.meta.rank,
        "target_modules": list(state.meta.target_modules),
    }


def _unpack_adapter(value: Any, info: ValidationInfo) -> AdapterState:
    if isinstance(value, AdapterState):
        return value
    match value:
        case {
            "tensors": tensors,
            "alpha": float(alpha),
            "base_model": str(base),
            "rank": int(rank),
            "target_modules": [*targets],
        } if len(value) == 5 and rank > 0 and rank is not True and alpha > 0 and _are_words(targets):
            meta = AdapterMeta(rank, alpha, tuple(targets), base)
            return AdapterState(_unpack_tensors(tensors, info), meta)
    raise ValueError("an adapter wanted: tensors, alpha, base_model, rank and target_modules")


def _are_words(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


#: Fields of these types travel among the arrays of a message.
Tensors = Annotated[Mapping[str, FloatArray], PlainValidator(_unpack_tensors), PlainSerializer(_pack_tensors)]
Adapter = Annotated[AdapterState, PlainValidator(_unpack_adapter), PlainSerializer(_pack_adapter)]
