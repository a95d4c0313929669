"""All updates of a round beside each other, for strategies that look at one layer of all sites at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.federation.strategies.updates import Updates
from fedse.storage import storage_errors

#: Bytes of updates that are held in memory; more lie in a temporary file.
_IN_MEMORY = 1 << 28


def held(updates: Updates) -> list[AdapterState]:
    """The adapters of all updates, in the order of the sites' names; each is loaded once.

    What does not fit into memory lies in a temporary file, from which tensors are read when they are looked at.

    Raises:
        StorageError: if the temporary file cannot be written.
    """
    adapters: list[AdapterState] = []
    size = 0
    with storage_errors("write", Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        for update in updates.values():
            size += update.adapter.nbytes
            adapters.append(update.adapter if size <= _IN_MEMORY else _mapped(update.adapter, file))
    return adapters


def _mapped(adapter: AdapterState, file: IO[bytes]) -> AdapterState:
    offset = file.tell()
    for tensor in adapter.tensors.values():
        file.write(tensor.data)
    file.flush()
    values = np.memmap(file, np.float32, "r", offset, (adapter.nbytes // 4,))
    ends = np.cumsum([tensor.size for tensor in adapter.tensors.values()])
    parts = zip(adapter.tensors.items(), np.split(values, ends[:-1]), strict=True)
    return AdapterState({name: part.reshape(tensor.shape) for (name, tensor), part in parts}, adapter.meta)
