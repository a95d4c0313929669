"""One packed array in a Flower message, and what both ends agree on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message.arraychunk import ArrayChunk
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_body,
    get_object_head_values_from_object_content,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.version import package_version

from fedse.errors import MessageError

#: Says which of a site's processes asks, so that two with one key do not work against each other.
PROCESS_HEADER = "fedse-process"
VERSION_HEADER = "fedse-flower"
VERSION = ".".join(package_version.split(".")[:2])

CHUNK_BYTES = FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
#: Bytes of a message beside its chunks, and of a request beside its chunk.
SLACK_BYTES = 64 * 1024
#: Objects of a message beside its chunks: the message itself, its record of records, the record of arrays, the array.
_FRAMES = 4

#: Seconds that a request for work is held; a site whose network was cut notices after that and a little more.
HOLD_SECONDS = 3.0
#: A message outlives every deadline and every difference between clocks; :class:`FlowerRuntime` keeps the deadlines.
LIFETIME_SECONDS = 1e9


def most_objects(limit: int) -> int:
    """Objects that a message with so many bytes may have."""
    return -(-limit // CHUNK_BYTES) + _FRAMES


def pack(data: bytes) -> RecordDict:
    """The content of a message that carries these bytes."""
    return RecordDict({"bytes": ArrayRecord({"bytes": Array("uint8", (len(data),), "bytes", data)})})


def unpack(root: str, contents: Mapping[str, bytes], limit: int) -> bytes:
    """The bytes of a packed message.

    Args:
        root: name of the message's object.
        contents: name → object, as Flower sends it.
        limit: bytes that may come out.  The objects can claim more than they hold: one chunk can be named many times.

    Raises:
        MessageError: if the objects are no packed message, or one of more bytes.
    """
    try:
        content = contents[root]
        for kind in ("Message", "RecordDict", "ArrayRecord"):
            found, children, _ = get_object_head_values_from_object_content(content)
            [child] = children
            if found != kind:
                raise ValueError(f"{found} in the place of {kind}")
            content = contents[child]
        chunks = get_object_head_values_from_object_content(content)[1]
        order = [chunks[index] for index in json.loads(get_object_body(content, Array))["arraychunk_ids"]]
        if sum(len(contents[chunk]) for chunk in order) > limit + SLACK_BYTES * (len(order) + 1):
            raise ValueError(f"more than {limit} bytes")
        parts = [get_object_body(contents[chunk], ArrayChunk) for chunk in order]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as cause:
        raise MessageError(f"no message with one packed array: {cause}") from cause
    if sum(map(len, parts)) > limit:
        raise MessageError(f"more than {limit} bytes")
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message as Flower sends it: its head, the tree of its objects' names, and the objects, children first."""

    head: Message
    tree: ObjectTree
    objects: Mapping[str, Any]

    @classmethod
    def of(cls, message: Message) -> Parcel:
        """A message, taken apart; it gets its name."""
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            return cls(remove_content_from_message(message), get_object_tree(message), get_all_nested_objects(message))
