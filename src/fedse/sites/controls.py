"""A site's own control variates c_k, the mean gradients of its updates, in the site's folder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from fedse.adapters.state import AdapterState
from fedse.errors import RunError, boundary
from fedse.learning.control import Control
from fedse.runs.layout import SiteFolder
from fedse.storage import atomic_write
from fedse.types import FloatArray


class Controls:
    """The c_k of a site; that of each round lies in a file of its own, so that a round can be done anew.

    Args:
        folder: the site's.
    """

    def __init__(self, folder: SiteFolder) -> None:
        self._folder = folder

    def correction(self, number: int, server: Mapping[str, FloatArray], start: AdapterState) -> Control:
        """What the gradients of a round are corrected by, c − c_k.

        Args:
            number: of the round.
            server: c; empty if it is 0.
            start: the adapter that is trained.

        Raises:
            RunError: if c is not of this adapter, or a file is damaged.
        """
        shapes = {name: array.shape for name, array in start.tensors.items()}
        if server and {name: array.shape for name, array in server.items()} != shapes:
            raise RunError("the server's mean gradient is not that of this adapter", "mend the strategy")
        own = self._before(number)
        return Control({n: np.asarray(server.get(n, 0.0) - own.get(n, 0.0), np.float32) for n in {**server, **own}})

    def keep(self, number: int, control: Control) -> None:
        """Write down the c_k of a round, if there was a step.

        Raises:
            StorageError: if it cannot be written.
        """
        if mean := control.mean():
            atomic_write(self._folder.control(number), safetensors.numpy.save(mean))

    def change(self, number: int) -> Mapping[str, FloatArray]:
        """How c_k changed in a round; empty if there was no step.

        Raises:
            RunError: if a file is damaged.
        """
        before, after = self._before(number), self._of(number)
        return {name: array - before.get(name, np.float32(0)) for name, array in after.items()}

    def forget(self, number: int) -> None:
        """Remove what neither the next round nor a resumed one reads: all but the last two."""
        made = [path for n in range(1, number + 1) if (path := self._folder.control(n)).exists()]
        for path in made[:-2]:
            path.unlink(missing_ok=True)

    def _before(self, number: int) -> Mapping[str, FloatArray]:
        """The c_k of the last round before one in which there was a step; empty before the first."""
        return next((found for n in range(number - 1, 0, -1) if (found := self._of(n))), {})

    def _of(self, number: int) -> Mapping[str, FloatArray]:
        path = self._folder.control(number)
        if not path.exists():
            return {}
        with boundary(RunError, f"{path} is damaged", "restore it from a copy"):
            found: dict[str, FloatArray] = safetensors.numpy.load_file(path)
        return found
