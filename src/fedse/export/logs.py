"""The metrics of a run where its user looks at runs: TensorBoard, MLflow, Weights & Biases.

The run knows nothing of it: whoever watches reads its folder again when a phase is finished, and writes what is new.
A kind of log is one module with one subclass of :class:`Log`, named in :data:`KINDS`.
"""

from __future__ import annotations

import importlib
import re
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from fedse.addresses import without_credentials
from fedse.errors import ConfigError, LogWarning, StorageError
from fedse.names import unknown_name
from fedse.progress import Event, Listener, Phase
from fedse.results.measures import Measurement
from fedse.results.reading import Run, read_run
from fedse.runs.layout import RunFolder
from fedse.storage import atomic_write
from fedse.texts import command, read_text

#: Name → module:class.  The extra that installs its library has the same name.
KINDS = {
    "tensorboard": "fedse.export.tensorboard:TensorBoardLog",
    "mlflow": "fedse.export.mlflow:MlflowLog",
    "wandb": "fedse.export.wandb:WandbLog",
}
#: A curve and a round of it.
Point = tuple[str, int]


class Log(ABC):
    """Writes the numbers of a run as curves over its rounds, each once; a context manager.

    Nothing is written before there is a number, so that a run that is refused leaves no trace.

    Args:
        folder: the run's.
        place: where to write; empty for the default, which is below the run's folder.

    Raises:
        ConfigError: if the library is not installed.
    """

    #: Of the library, as ``import`` has it, and as its makers write it.
    module: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        self.library = self._library()
        self._written: set[Point] | None = None

    def _library(self) -> ModuleType:
        try:
            return importlib.import_module(self.module)
        except ImportError as cause:
            raise ConfigError(f"{self.title} is not installed", f"pip install 'fedse[{self._name}]'") from cause

    @property
    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @property
    def target(self) -> str:
        """How :func:`make_log` is told of it."""
        return f"{self._name}:{self.place}" if self.place else self._name

    @property
    def logs(self) -> Path:
        """Where logs are by default."""
        return RunFolder(self.folder).logs

    @property
    def key(self) -> str:
        """Tells the run apart from all others, also where it goes on; made when it is first asked for."""
        path = self.logs / "key"
        if not path.is_file():
            atomic_write(path, secrets.token_hex(8))
        return read_text(path)

    def update(self, run: Run) -> None:
        """Write what the run has measured and the log does not have yet.

        Raises:
            StorageError: if it cannot be written.
        """
        with self._boundary():
            if self._written is None:
                self._written = self._begin(run)
            points = {(tag(value), value.round): value.value for value in self._ready(run)}
            new = {point: value for point, value in points.items() if point not in self._written}
            self._write(new)
            self._written |= new.keys()

    def close(self, *, well: bool) -> None:
        """Close it; ``well`` if the work on the run ended well.

        Raises:
            StorageError: if that fails.
        """
        if self._written is not None:
            with self._boundary():
                self._end(well=well)

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        try:
            yield
        except Exception as cause:  # of a library of others
            what = without_credentials(f"cannot write to {self.title}: {type(cause).__name__}: {cause}")
            raise StorageError(what, without_credentials(f"look at {self._where}")) from cause

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(well=kind is None)

    def _ready(self, run: Run) -> Sequence[Measurement]:
        """What of a run is written already."""
        return run.measurements

    @abstractmethod
    def _begin(self, run: Run) -> set[Point]:
        """Open the log, or go on with it; gives what it has."""

    @abstractmethod
    def _write(self, points: Mapping[Point, float]) -> None:
        """Write curves on."""

    @abstractmethod
    def _end(self, *, well: bool) -> None:
        """Close the log of a run that ended well, or did not."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The place, in words or as an address."""

    @property
    @abstractmethod
    def look(self) -> str:
        """The command with which to look at it once something is written, or the address."""


def make_log(target: str, folder: Path) -> Log:
    """The log of a run folder: ``NAME``, or ``NAME:PLACE``.

    Raises:
        UnknownNameError: if no log has that name.
        ConfigError: if its library is not installed.
        StorageError: if the place cannot be used.
    """
    name, _, place = target.partition(":")
    if name not in KINDS:
        raise unknown_name("log", name, KINDS)
    module, _, kind = KINDS[name].partition(":")
    made: Log = getattr(importlib.import_module(module), kind)(folder, place)
    return made


@contextmanager
def logged(logs: Sequence[Log], listener: Listener) -> Iterator[Listener]:
    """The listener for a run, and beside it the logs that follow its folder; a log that fails is warned of once."""
    followers = [_Follower(log) for log in logs]

    def told(event: Event) -> None:
        listener(event)
        if event.finished:
            for follower in followers:
                follower.update()

    well = False
    try:
        yield told
        well = True
    finally:
        for follower in followers:
            follower.close(well=well)


class _Follower:
    """A log that follows a run.  One that failed is left alone until the end: waiting for it would hold up the run."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._has_failed = False

    def update(self) -> None:
        if not self._has_failed:
            with self._harmless():
                self._log.update(read_run(self._log.folder, allow_unfinished_start=True))

    def close(self, *, well: bool) -> None:
        if well:
            with self._harmless():
                self._log.update(read_run(self._log.folder))
        with self._harmless():
            self._log.close(well=well)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as cause:  # whoever watches never ends a run
            if not self._has_failed:
                again = command("fedse export", self._log.folder, "--log-to", self._log.target)
                told = without_credentials(f"{cause}\nThe run goes on. What the log lacks then: {again}")
                warnings.warn(LogWarning(told), stacklevel=2)
            self._has_failed = True


def tag(value: Measurement) -> str:
    """The name of a number's curve, by whose it is: ``phase/metric/site``, as in ``train/last_loss/maze``.

    A rate is an environment's, or that of a site's adapter in another site's environment.
    """
    is_rate = value.phase is Phase.EVALUATE and value.metric != "seconds"
    site = "" if is_rate and not value.metric.startswith("transfer.") else value.site
    parts = (value.phase.value, value.metric, site, value.environment if is_rate else "")
    return "/".join(plain(part) for part in parts if part)


def plain(name: str) -> str:
    """A name in the characters that every log takes: no ``@``, no ``//`` of an address."""
    return re.sub(r"[^\w.:-]+", "_", name)
