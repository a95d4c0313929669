"""A site's end of what passes between it and the server: adapters as changes from those that both have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from fedse.adapters.deltas import WITH_RESIDUALS, alike, tell
from fedse.adapters.files import read_weights, weights_bytes
from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, RunError, StorageError, boundary
from fedse.messages import Instruction, Reply, Update
from fedse.messages.wire import Delta
from fedse.runs.layout import SiteFolder
from fedse.storage import atomic_write, read_json, storage_errors, write_json
from fedse.types import FloatArray

_SCHEMA = 1
_KEPT = 2
_ORDER = "order.json"


class SiteChannel:
    """Reads instructions and encodes replies for one site.

    What the site was sent lies in its folder, so that it is there after a restart, and for every process of the site.

    Args:
        folder: the site's.
        initial: makes the adapter that the federation begins with; the server need never send it.
    """

    def __init__(self, folder: SiteFolder, initial: Callable[[], AdapterState]) -> None:
        self._folder = folder
        self._initial = initial
        self._last: AdapterState | None = None

    def decode(self, data: bytes) -> Instruction:
        """An instruction, whose adapter is kept before anything is done with it.

        Raises:
            UnknownAdapterError: if an adapter is told by one that is not here.
            MessageError: if these bytes are no instruction.
            StorageError: if the adapter cannot be written.
        """
        instruction = Instruction.decode(data, self._find)
        if instruction.adapter is not None and not instruction.owner:  # another site's is not sent again
            self._keep(instruction.adapter)
        return instruction

    def encode(self, instruction: Instruction, reply: Reply) -> bytes:
        """The bytes of a reply; the adapter of an update is told by the one that it began from.

        Asked for the same again, it is told in the same way: what rounding lost in the rounds before is kept.

        Raises:
            MessageError: if the update cannot be told.
            RunError: if what was kept is damaged.
            StorageError: if it cannot be read or written.
        """
        answer, base = reply.answer, instruction.base
        if instruction.codec is None or base is None or not isinstance(answer, Update):
            return reply.encode()
        if not alike(base, answer.adapter):
            return reply.encode()
        keeps = instruction.codec in WITH_RESIDUALS
        told = tell(instruction.codec, base, answer.adapter, self._lost(instruction.round) if keeps else {})
        if keeps:
            self._keep_lost(instruction.round, told.lost)
        same = told.adapter.digest == base.digest
        delta = Delta(base.digest) if same else Delta(base.digest, instruction.codec, told.payload)
        update = answer.model_copy(update={"adapter": told.adapter})
        return reply.model_copy(update={"answer": update}).encode({told.adapter.digest: delta})

    def _find(self, digest: str) -> AdapterState | None:
        """An adapter that was sent, or the initial one.  A file that is damaged counts as lost: it is sent again."""
        if self._last is not None and self._last.digest == digest:
            return self._last
        try:
            found = read_weights(self._file(digest))
            if found.digest == digest:
                return found
        except AdapterError:
            pass
        initial = self._initial()
        return initial if initial.digest == digest else None

    def _keep(self, adapter: AdapterState) -> None:
        self._last = adapter
        order = self._order()
        if adapter.digest == self._initial().digest:
            return
        if order[:1] != [adapter.digest]:
            order = [adapter.digest, *(digest for digest in order if digest != adapter.digest)][:_KEPT]
            atomic_write(self._file(adapter.digest), weights_bytes(adapter))
            write_json(self._folder.received / _ORDER, {"schema_version": _SCHEMA, "digests": order})
        kept = {self._file(digest) for digest in order}
        for path in self._folder.received.glob("*.safetensors"):  # also what a process left that was killed right here
            if path not in kept:
                path.unlink(missing_ok=True)  # another process of the site may have been faster

    def _order(self) -> list[str]:
        """Digests of what was received, the last first."""
        try:
            return [
                str(digest) for digest in read_json(self._folder.received / _ORDER, schema_version=_SCHEMA)["digests"]
            ]
        except (StorageError, KeyError, TypeError):
            return []

    def _file(self, digest: str) -> Path:
        name = (
            digest if re.fullmatch("[0-9a-f]{64}", digest) else "none"
        )  # it comes from outside, and is to name no path
        return self._folder.received / f"{name}.safetensors"

    def _lost(self, number: int) -> dict[str, FloatArray]:
        """What was lost before a round."""
        before = [path for path in self._residuals() if int(path.stem) < number]
        if not before:
            return {}
        with boundary(RunError, f"{before[-1]} is damaged", "remove it: what rounding lost is then not sent later"):
            return safetensors.numpy.load_file(before[-1])

    def _keep_lost(self, number: int, lost: Mapping[str, FloatArray]) -> None:
        arrays = {name: np.asarray(array, order="C") for name, array in lost.items()}
        atomic_write(self._folder.residuals / f"{number:03d}.safetensors", safetensors.numpy.save(arrays))
        for path in self._residuals()[:-_KEPT]:
            path.unlink()

    def _residuals(self) -> list[Path]:
        with storage_errors("read", self._folder.residuals):
            return sorted(self._folder.residuals.glob("*.safetensors"), key=lambda path: int(path.stem))
