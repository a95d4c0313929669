"""What a GGUF file says of itself: its metadata and the shapes of its tensors, read without its weights.

The format is that of ggml: magic, version and two counts, pairs of key and value, then for each tensor its name, shape,
type and offset, and the data behind them.  The readers of other packages take seconds for a vocabulary, or do not
notice that the end of a file is missing.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedse.errors import ModelError, boundary
from fedse.storage import storage_errors

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_GET_WHOLE = "get the file again; its size should be that of the place it comes from"

#: Goes into every digest.  Counting it up makes conversions by an earlier fedse void.
_CONVERSION = 1
_HEAD, _BLOCK, _BLOCKS = 2**25, 2**14, 256


@dataclass(frozen=True)
class GgufFile:
    """The head of a GGUF file.

    Attributes:
        path: the file.
        metadata: key → number, text, or list of such.
        tensors: name → shape, outermost dimension first.
        types: in which formats the weights are stored, as in "Q4_K".
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]
    types: frozenset[str]

    @property
    def architecture(self) -> str:
        """As ggml names it; not always the model type of transformers."""
        return str(self.metadata["general.architecture"])

    @property
    def title(self) -> str:
        """The model's own name, or the file's."""
        return str(self.metadata.get("general.name", self.path.stem))

    @cached_property
    def digest(self) -> str:
        """See :func:`digest`."""
        return digest(self.path)

    def tokenizer(self, key: str) -> Any:
        """A value of the tokenizer's; ``None`` if it is not there."""
        return self.metadata.get(f"tokenizer.ggml.{key}")


def is_gguf(name: str) -> bool:
    """Whether a model's name is the path of a GGUF file."""
    return name.lower().endswith(".gguf")


def digest(path: Path) -> str:
    """Sixteen hex digits that tell a file's content from another's, whatever it is called.

    Over the size, the first 32 MiB (metadata and vocabulary) and 256 evenly spaced blocks, so that a file of many
    gigabytes takes a moment as well.

    Raises:
        StorageError: if the file is not there or cannot be read.
    """
    with storage_errors("read", path), path.open("rb") as stream:
        size = path.stat().st_size
        hasher = hashlib.sha256(f"{_CONVERSION} {size} ".encode() + stream.read(_HEAD))
        for start in range(_HEAD, size, max(_BLOCK, (size - _HEAD) // _BLOCKS)):
            stream.seek(start)
            hasher.update(stream.read(_BLOCK))
        stream.seek(max(0, size - _BLOCK))
        hasher.update(stream.read())
    return hasher.hexdigest()[:16]


def read_head(path: Path) -> GgufFile:
    """Read the head of a GGUF file, and check that all the data that it speaks of is there.

    Raises:
        ModelError: if it is no GGUF file of a known version, is damaged or cut off, or is one part of several.
        StorageError: if it is not there or cannot be read.
    """
    with storage_errors("read", path), path.open("rb") as stream:
        magic = stream.read(len(_MAGIC))
        if magic != _MAGIC:
            what = f"{path} is no GGUF file: it begins with {magic!r}" if magic else f"{path} is empty"
            raise ModelError(what, "name a file of the GGUF format, or the folder of a model in Hugging Face layout")
        with (
            boundary(ModelError, f"{path} is no sound GGUF file", _GET_WHOLE),
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            head, end = _parse(path, data)
            if end > len(data):
                raise ModelError(f"{path} is cut off: it has {len(data):,} bytes of {end:,}", _GET_WHOLE)
    parts = head.metadata.get("split.count", 1)
    if parts > 1:
        raise ModelError(
            f"{path} is one part of {parts}", "join the parts with llama.cpp: llama-gguf-split --merge FIRST WHOLE"
        )
    return head


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, form: str) -> tuple[Any, ...]:
        """The values of a ``struct`` format; little-endian, without padding."""
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def text(self) -> str:
        (length,) = self.take("Q")
        raw = self.data[self.at : self.at + length]
        if len(raw) < length:
            raise EOFError("it ends within its metadata")
        self.at += length
        return raw.decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])[0]
        item, count = self.take("IQ")
        return (
            list(self.take(f"{count}{_SCALARS[item]}"))
            if item in _SCALARS
            else [self.value(item) for _ in range(count)]
        )


def _parse(path: Path, data: mmap.mmap) -> tuple[GgufFile, int]:
    """The head, and the size that the file has if it is whole."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    cursor = _Cursor(data, len(_MAGIC))
    version, tensor_count, pair_count = cursor.take("IQQ")
    if version not in _VERSIONS:
        raise ModelError(
            f"{path} has version {version} of GGUF; fedse reads {' and '.join(map(str, _VERSIONS))}",
            "convert the model anew with today's llama.cpp",
        )
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        key = cursor.text()
        metadata[key] = cursor.value(*cursor.take("I"))
    tensors, types, ends = {}, set(), [0]
    for _ in range(tensor_count):
        name = cursor.text()
        shape = cursor.take(f"{cursor.take('I')[0]}Q")[::-1]
        kind, offset = cursor.take("IQ")
        stored = GGMLQuantizationType(kind)
        per_block, bytes_per_block = GGML_QUANT_SIZES[stored]
        tensors[name] = shape
        types.add(stored.name)
        ends.append(offset + math.prod(shape) // per_block * bytes_per_block)
    alignment = metadata.get("general.alignment", 32)
    return GgufFile(path, metadata, tensors, frozenset(types)), -(-cursor.at // alignment) * alignment + max(ends)
