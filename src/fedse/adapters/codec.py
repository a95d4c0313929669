"""The encoding of everything that crosses between a server and a site: one packed buffer with a manifest.

    "FEDSE" and a zero byte           6 bytes
    version                           uint16
    length of the manifest            uint32
    manifest                          JSON, UTF-8, canonical
    arrays                            float32, or bytes as they are, in the order of the manifest, without gaps
    SHA-256 of all bytes before it    32 bytes

Numbers are little-endian.  The manifest has two keys: ``body``, any JSON, and ``arrays``, a list of (name, shape);
where bytes travel, their number stands for the shape.  Equal contents have equal bytes, and :func:`unpack` accepts only
the bytes that :func:`pack` makes.  One buffer rather than one object per tensor: transports handle hundreds of small
objects many times slower.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from fedse.errors import MessageError
from fedse.types import FloatArray

VERSION = 3

#: Bytes that a message may have, unless the reader says otherwise; its arrays take no more than it has.
LIMIT = 1 << 30
#: Bytes that a manifest may have: read as JSON it takes many times as much memory.
MANIFEST_LIMIT = 1 << 22
#: What travels beside the body: tensors, and bytes that mean something to whoever reads the body.
Arrays = Mapping[str, FloatArray | bytes]

_MAGIC = b"FEDSE\0"
_HEADER = struct.Struct("<6sHI")
_CHECKSUM_BYTES = 32
_DTYPE = np.dtype("<f4")
_DIMENSIONS = 32


def pack(body: Any, arrays: Arrays) -> bytes:
    """One buffer with a JSON body and named float32 arrays or bytes, which keep their order.

    Raises:
        MessageError: if the body holds what JSON cannot express, such as NaN, or an array is empty or has no dimension,
            or the manifest is too long.
    """
    manifest = manifest_bytes(body, arrays)
    parts = [_HEADER.pack(_MAGIC, VERSION, len(manifest)), manifest]
    parts += [
        array if isinstance(array, bytes) else array.astype(_DTYPE, copy=False).tobytes() for array in arrays.values()
    ]
    message = b"".join(parts)
    return message + hashlib.sha256(message).digest()


def manifest_bytes(body: Any, arrays: Arrays) -> bytes:
    """The manifest of a message; errors as of :func:`pack`."""
    sizes = {name: len(array) if isinstance(array, bytes) else list(array.shape) for name, array in arrays.items()}
    odd = [name for name, size in sizes.items() if not _is_entry(name, size)]
    if odd:
        raise MessageError(
            f"the message cannot be encoded: {odd[0]!r} has size {sizes[odd[0]]}",
            f"send arrays with at least one element, 1 to {_DIMENSIONS} dimensions and a printable name",
        )
    header = {"arrays": [[name, size] for name, size in sizes.items()], "body": body}
    try:
        manifest = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as cause:
        raise MessageError(f"the message cannot be encoded: {cause}", "send finite numbers and plain data") from cause
    if len(manifest) > MANIFEST_LIMIT:
        raise MessageError(
            f"the message cannot be encoded: all but its arrays takes {len(manifest)} bytes",
            f"send at most {MANIFEST_LIMIT} bytes beside the arrays",
        )
    return manifest


def has_manifest(data: bytes, manifest: bytes) -> bool:
    """Whether a message that :func:`unpack` accepts has this manifest."""
    return data[_HEADER.size : _HEADER.size + len(manifest)] == manifest and _HEADER.unpack_from(data)[2] == len(
        manifest
    )


def unpack(data: bytes, limit: int = LIMIT) -> tuple[Any, dict[str, FloatArray | bytes]]:
    """The inverse of :func:`pack`.  Sizes are checked before anything is allocated.

    Args:
        data: the message.
        limit: how many bytes it may have.

    Returns:
        The body, and the arrays in their order, read-only.

    Raises:
        MessageError: saying what is wrong, if these are not exactly the bytes that :func:`pack` makes.
    """
    if len(data) > limit:
        refuse(f"it has {len(data)} bytes, more than the {limit} that are allowed")
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        refuse(f"{len(data)} bytes are too few: it is truncated")
    magic, version, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        refuse(f"it begins with {magic!r} instead of {_MAGIC!r}")
    if version != VERSION:
        raise MessageError(
            f"the message has version {version} of the wire format; this fedse reads version {VERSION}",
            "run the same fedse on sites and server",
        )
    content = memoryview(data)[_HEADER.size : -_CHECKSUM_BYTES]
    if length > MANIFEST_LIMIT:
        refuse(f"its manifest should have {length} bytes, more than the {MANIFEST_LIMIT} that are allowed")
    if length > len(content):
        refuse(f"its manifest should have {length} bytes, but {len(content)} follow: it is truncated")
    if hashlib.sha256(memoryview(data)[:-_CHECKSUM_BYTES]).digest() != data[-_CHECKSUM_BYTES:]:
        refuse("its checksum is wrong: it is truncated or was changed on the way")
    header = _parse(bytes(content[:length]))
    return header["body"], _arrays(header["arrays"], content[length:])


def refuse(why: str) -> NoReturn:
    """Refuse bytes that are no message.

    Raises:
        MessageError: always.
    """
    raise MessageError(f"these bytes are no message: {why}", "send the message again, whole and unchanged")


def _parse(manifest: bytes) -> dict[str, Any]:
    try:
        header = json.loads(manifest.decode("utf-8"), parse_constant=lambda name: refuse(f"its manifest holds {name}"))
        canonical = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as cause:
        refuse(f"its manifest is no JSON: {cause}")
    if canonical != manifest:
        refuse("its manifest is not in canonical form")
    if not isinstance(header, dict) or header.keys() != {"arrays", "body"}:
        refuse("its manifest must have the keys arrays and body, and no others")
    if not isinstance(header["arrays"], list):
        refuse("arrays is no list")
    return header


def _arrays(entries: list[Any], buffer: memoryview) -> dict[str, FloatArray | bytes]:
    arrays: dict[str, FloatArray | bytes] = {}
    end = 0
    for entry in entries:
        name, shape = _entry(entry)
        if name in arrays:
            refuse(f"array {name!r} appears twice")
        start, count = end, shape if isinstance(shape, int) else math.prod(shape)
        end += count if isinstance(shape, int) else count * _DTYPE.itemsize
        if end > len(buffer):
            refuse(f"array {name!r} goes beyond the {len(buffer)} bytes that the arrays have")
        if isinstance(shape, int):
            arrays[name] = bytes(buffer[start:end])
            continue
        # Copied, because the buffer need not be aligned for float32.
        array = np.frombuffer(buffer, _DTYPE, count, start).astype(np.float32).reshape(shape)
        array.flags.writeable = False
        arrays[name] = array
    if end != len(buffer):
        refuse(f"{len(buffer) - end} bytes follow after the last array")
    return arrays


def _entry(entry: Any) -> tuple[str, list[int] | int]:
    match entry:
        case [str(name), size] if _is_entry(name, size):
            return name, size
    refuse(
        f"an array must be a printable name and 1 to {_DIMENSIONS} sizes of at least 1, or a number of bytes, found "
        f"{str(entry)[:80]!r}"
    )


def _is_entry(name: str, size: Any) -> bool:
    sizes = size if isinstance(size, list) else [size]
    return name.isprintable() and 1 <= len(sizes) <= _DIMENSIONS and all(type(one) is int and one > 0 for one in sizes)
