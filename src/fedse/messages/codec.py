"""The wire format of a client's update: one packed buffer with a manifest.  Nothing else leaves a site.

    "FEDSE" and a zero byte           6 bytes
    version                           uint16
    length of the manifest            uint32
    manifest                          JSON, UTF-8, canonical
    tensors                           float32, in the order of the manifest, without gaps
    SHA-256 of all bytes before it    32 bytes

Numbers are little-endian.  The manifest has exactly the keys of :data:`MANIFEST_KEYS`; :func:`decode_update` accepts
only the bytes that :func:`encode_update` makes, so that an update has one encoding and no room for anything besides.
One buffer rather than one object per tensor: transports handle hundreds of small objects many times slower.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any, NoReturn

import numpy as np

from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import AdapterError
from fedse.messages.update import ClientUpdate
from fedse.types import FloatArray

VERSION = 1
MANIFEST_KEYS = frozenset({"client", "dtype", "meta", "round", "scalars", "tensors"})
META_KEYS = frozenset({"alpha", "base_model", "rank", "target_modules"})
TENSOR_KEYS = frozenset({"name", "offset", "shape"})

_MAGIC = b"FEDSE\0"
_HEADER = struct.Struct("<6sHI")
_CHECKSUM_BYTES = 32
_DTYPE = np.dtype("<f4")


def encode_update(update: ClientUpdate) -> bytes:
    """The bytes of an update; equal updates give equal bytes.

    Raises:
        AdapterError: if a scalar is not finite, which JSON cannot express.
    """
    manifest = _manifest_bytes(update)
    header = _HEADER.pack(_MAGIC, VERSION, len(manifest))
    tensors = [array.astype(_DTYPE, copy=False).tobytes() for array in update.adapter.tensors.values()]
    message = b"".join([header, manifest, *tensors])
    return message + hashlib.sha256(message).digest()


def encoded_size(update: ClientUpdate) -> int:
    """How many bytes :func:`encode_update` makes of an update, without making them.

    Raises:
        AdapterError: see :func:`encode_update`.
    """
    return _HEADER.size + len(_manifest_bytes(update)) + update.adapter.nbytes + _CHECKSUM_BYTES


def decode_update(data: bytes) -> ClientUpdate:
    """The inverse of :func:`encode_update`.  Sizes are checked before anything is allocated.

    Whether the update fits the round and the model is for :mod:`fedse.messages.screening` to say.

    Raises:
        AdapterError: saying what is wrong, if these are not exactly the bytes of an update.
    """
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        _refuse(f"{len(data)} bytes are too few: it is truncated")
    magic, version, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        _refuse(f"it begins with {magic!r} instead of {_MAGIC!r}")
    if version != VERSION:
        raise AdapterError(
            f"the update has version {version} of the wire format; this fedse reads version {VERSION}",
            "run the same fedse on clients and server",
        )
    body = memoryview(data)[_HEADER.size : -_CHECKSUM_BYTES]
    if length > len(body):
        _refuse(f"its manifest should have {length} bytes, but {len(body)} follow: it is truncated")
    if hashlib.sha256(memoryview(data)[:-_CHECKSUM_BYTES]).digest() != data[-_CHECKSUM_BYTES:]:
        _refuse("its checksum is wrong: it is truncated or was changed on the way")
    manifest = _parse(bytes(body[:length]))
    update = _update(manifest, body[length:])
    if _manifest_bytes(update) != body[:length]:
        _refuse("its manifest is not in canonical form")
    return update


def _manifest_bytes(update: ClientUpdate) -> bytes:
    meta = update.adapter.meta
    tensors, offset = [], 0
    for name, array in update.adapter.tensors.items():
        tensors.append({"name": name, "offset": offset, "shape": list(array.shape)})
        offset += array.nbytes
    manifest = {
        "client": update.client,
        "dtype": "float32",
        "meta": {
            "alpha": float(meta.alpha),
            "base_model": meta.base_model,
            "rank": meta.rank,
            "target_modules": list(meta.target_modules),
        },
        "round": update.round,
        "scalars": {name: float(value) for name, value in update.scalars.items()},
        "tensors": tensors,
    }
    try:
        return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as cause:
        raise AdapterError(
            f"the update of client {update.client!r} cannot be encoded: {cause}", "send finite scalars"
        ) from cause


def _parse(manifest: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(manifest.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as cause:
        _refuse(f"its manifest is no JSON: {cause}")
    return _object(parsed, MANIFEST_KEYS, "the manifest")


def _update(manifest: dict[str, Any], buffer: memoryview) -> ClientUpdate:
    if manifest["dtype"] != "float32":
        _refuse(f"its tensors are {manifest['dtype']!r} instead of 'float32'")
    meta = _object(manifest["meta"], META_KEYS, "meta")
    targets = _list(meta["target_modules"], "target_modules")
    scalars = manifest["scalars"]
    if not isinstance(scalars, dict):
        _refuse("scalars is no object")
    return ClientUpdate(
        client=_text(manifest["client"], "client"),
        round=_natural(manifest["round"], "round"),
        adapter=AdapterState(
            _tensors(_list(manifest["tensors"], "tensors"), buffer),
            AdapterMeta(
                rank=_natural(meta["rank"], "rank"),
                alpha=_number(meta["alpha"], "alpha"),
                target_modules=tuple(_text(name, "target_modules") for name in targets),
                base_model=_text(meta["base_model"], "base_model"),
            ),
        ),
        scalars={name: _number(value, f"scalar {name!r}") for name, value in scalars.items()},
    )


def _tensors(entries: list[Any], buffer: memoryview) -> dict[str, FloatArray]:
    tensors: dict[str, FloatArray] = {}
    end = 0
    for entry in entries:
        entry = _object(entry, TENSOR_KEYS, "a tensor's entry")
        name, offset = _text(entry["name"], "name"), _natural(entry["offset"], "offset")
        shape = tuple(_natural(size, "shape") for size in _list(entry["shape"], "shape"))
        if name in tensors:
            _refuse(f"tensor {name!r} appears twice")
        if len(shape) != 2 or 0 in shape:
            _refuse(f"tensor {name!r} has shape {shape} instead of two sizes ≥ 1")
        if offset != end:
            _refuse(f"tensor {name!r} begins at byte {offset} instead of {end}: tensors overlap or leave a gap")
        count = math.prod(shape)
        end += count * _DTYPE.itemsize
        if end > len(buffer):
            _refuse(f"tensor {name!r} should end at byte {end}, but the tensors have {len(buffer)} bytes")
        # Copied, because the buffer need not be aligned for float32.
        tensors[name] = np.frombuffer(buffer, _DTYPE, count, offset).astype(np.float32).reshape(shape)
    if end != len(buffer):
        _refuse(f"{len(buffer) - end} bytes follow after the last tensor")
    return tensors


def _object(value: Any, keys: frozenset[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != keys:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        _refuse(f"{what} must have the keys {sorted(keys)}, found {found}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"{what} is {type(value).__name__} instead of a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        _refuse(f"{what} is {type(value).__name__} instead of text")
    return value


def _natural(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse(f"{what} is {value!r} instead of a whole number ≥ 0")
    return value


def _number(value: Any, what: str) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        _refuse(f"{what} is {value!r} instead of a finite number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"its manifest holds {name}")


def _refuse(why: str) -> NoReturn:
    raise AdapterError(f"these bytes are no client update: {why}", "send the update again, whole and unchanged")
