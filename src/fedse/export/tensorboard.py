"""The metrics of a run as TensorBoard reads them, written while it runs or afterwards.

The run knows nothing of it: whoever watches reads its folder again when a phase is finished, and writes what is new.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedse.errors import ConfigError, StorageError
from fedse.progress import Event, Phase
from fedse.results.measures import Measurement
from fedse.results.reading import Run, read_run
from fedse.settings import dump_config
from fedse.storage import atomic_directory, storage_errors

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_EVENTS = "events.out.tfevents."


class EventLog:
    """Writes the numbers of a run as scalars over its rounds, each once; a context manager.

    Tags are ``phase/metric/site``, as in ``train/last_loss/maze``; of evaluations ``evaluate/rate/environment``.

    Args:
        folder: TensorBoard shows it as one run; event files that are there are replaced once there is something to
            write, and not by a run that is refused.

    Raises:
        ConfigError: if tensorboard is not installed.
        StorageError: if the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as cause:
            raise ConfigError("TensorBoard is not installed", "pip install 'fedse[tensorboard]'") from cause
        self._folder, self._make_writer = folder, SummaryWriter
        self._writer: SummaryWriter | None = None
        self._written: set[Measurement] = set()
        _check(folder)

    def update(self, run: Run) -> None:
        """Write what the run has measured and this log does not have yet."""
        if self._writer is None:
            _check(self._folder)
            with storage_errors("write", self._folder):
                for path in self._folder.glob(f"{_EVENTS}*"):
                    path.unlink()  # the new ones begin from round 0 again, and TensorBoard would show both
                self._writer = self._make_writer(str(self._folder))
            self._writer.add_text("config", f"```yaml\n{dump_config(run.config)}```")
        for value in run.measurements:
            if value not in self._written:
                self._written.add(value)
                self._writer.add_scalar(tag(value), value.value, value.round)
        self._writer.flush()

    def follow(self, run: Path, event: Event) -> None:
        """Read a run folder anew (:func:`~fedse.results.reading.read_run`) when a phase is finished."""
        if event.finished:
            self.update(read_run(run, allow_unfinished_start=True))

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


def export_events(folder: Path, run: Run) -> None:
    """Write a run's numbers as a folder of event files, whole or not at all; earlier event files are replaced.

    Raises:
        ConfigError, StorageError: as :class:`EventLog`.
    """
    _check(folder)
    with atomic_directory(folder) as scratch, EventLog(scratch) as log:
        log.update(run)


def tag(value: Measurement) -> str:
    """The name of a number's curve, by whose it is; TensorBoard groups by its first part.

    A rate is an environment's, or that of a site's adapter in another site's environment.
    """
    is_rate = value.phase is Phase.EVALUATE and value.metric != "seconds"
    site = "" if is_rate and not value.metric.startswith("transfer.") else value.site
    parts = (value.phase.value, value.metric, site, value.environment if is_rate else "")
    return "/".join(filter(None, parts))


def _check(folder: Path) -> None:
    with storage_errors("read", folder):
        foreign = [path for path in folder.iterdir() if not path.name.startswith(_EVENTS)] if folder.exists() else []
    if foreign:
        raise StorageError(f"{folder} holds more than event files, as {foreign[0].name}", "choose another folder")
