"""The metrics of a run as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedse.errors import StorageError
from fedse.export.logs import Log, Point
from fedse.results.reading import Run
from fedse.settings import dump_config
from fedse.storage import storage_errors
from fedse.texts import command

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_EVENTS = "events.out.tfevents."


class TensorBoardLog(Log):
    """Event files in a folder, which TensorBoard shows as one run; those of an earlier log are replaced.

    Raises:
        ConfigError: if tensorboard is not installed.
        StorageError: if the folder holds something else, or cannot be read.
    """

    module, title = "torch.utils.tensorboard", "TensorBoard"

    def __init__(self, folder: Path, place: str) -> None:
        super().__init__(folder, place)
        self._folder = Path(place) / folder.resolve().name if place else self.logs / "tensorboard"
        self._writer: SummaryWriter | None = None
        self._check()

    def _check(self) -> None:
        folder = self._folder
        with storage_errors("read", folder):
            found = list(folder.iterdir()) if folder.exists() else []
        if foreign := [path for path in found if not path.name.startswith(_EVENTS)]:
            raise StorageError(f"{folder} holds more than event files, as {foreign[0].name}", "choose another folder")

    def _begin(self, run: Run) -> set[Point]:
        self._check()
        with storage_errors("write", self._folder):
            for path in self._folder.glob(f"{_EVENTS}*"):
                path.unlink()  # the new ones begin from round 0 again, and TensorBoard would show both
            self._writer = self.library.SummaryWriter(str(self._folder))
        self._writer.add_text("config", f"```yaml\n{dump_config(run.config)}```")
        return set()

    def _write(self, points: Mapping[Point, float]) -> None:
        assert self._writer is not None
        for (curve, number), value in points.items():
            self._writer.add_scalar(curve, value, number)
        self._writer.flush()

    def _end(self, *, well: bool) -> None:  # noqa: ARG002 it shows no difference
        assert self._writer is not None
        self._writer.close()

    @property
    def _where(self) -> str:
        return str(self._folder)

    @property
    def look(self) -> str:
        """Shows all runs of the place."""
        return command("tensorboard --logdir", self.place or self._folder)
