"""All updates of a round beside each other, for strategies that look at one part of all sites at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.updates import Updates
from fedse.storage import storage_errors
from fedse.types import FloatArray

#: Bytes of updates that are held in memory; more lie in a temporary file.
_IN_MEMORY = 1 << 28


class Held(NamedTuple):
    """One update.

    Attributes:
        adapter: whose tensors are views of ``values``.
        values: all its values, tensor after tensor, shape (P,), float32.
    """

    adapter: AdapterState
    values: FloatArray


def held(updates: Updates) -> list[Held]:
    """All updates, in the order of the sites' names; each is loaded once.

    What does not fit into memory lies in a temporary file, 4 bytes for each value, and is read when it is looked at.

    Raises:
        StorageError: if the temporary file cannot be written.
    """
    found: list[Held] = []
    size = 0
    # Written, not mapped for writing: a full disk is then an error and not a crash.
    with storage_errors("write", Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        for update in updates.values():
            values = np.concatenate([tensor.reshape(-1) for tensor in update.adapter.tensors.values()])
            size += values.nbytes
            if size > _IN_MEMORY:
                offset = file.tell()
                file.write(values.data)
                file.flush()
                values = np.memmap(file, np.float32, "r", offset, values.shape)
            found.append(_views(update.adapter, values))
    return found


def _views(like: AdapterState, values: FloatArray) -> Held:
    ends = np.cumsum([tensor.size for tensor in like.tensors.values()])
    parts = zip(like.tensors.items(), np.split(values, ends[:-1]), strict=True)
    return Held(AdapterState({name: part.reshape(tensor.shape) for (name, tensor), part in parts}, like.meta), values)
