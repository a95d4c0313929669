"""A whole federation on one machine: in one process, where the sites take turns on one base model, or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from fedse.config import RunConfig
from fedse.errors import RunError
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.federation.runtimes.workers import worker_runtime
from fedse.federation.server import Server, strategy_of
from fedse.names import unknown_name
from fedse.progress import Listener, silent
from fedse.runs.folder import open_server
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import adapter_folder
from fedse.sites.host import SiteHost, versions
from fedse.storage import recover_below, storage_errors
from fedse.types import RoundRecord, SuccessRate


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves behind.

    Attributes:
        folder: the run folder.
        adapters: site → peft folder of the adapter that it ends with; one for all unless every site has its own.
        records: one per round, from round 0, the initial adapter.
    """

    folder: Path
    adapters: Mapping[str, Path]
    records: tuple[RoundRecord, ...]

    @property
    def adapter(self) -> Path:
        """Folder of the final global adapter.

        Raises:
            RunError: if there is none, because every site has its own.
        """
        first, *others = set(self.adapters.values())
        if others:
            raise RunError(
                f"every site of {self.folder} has its own adapter: there is no global one", "take one of .adapters"
            )
        return first

    @property
    def before(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the initial adapter."""
        return self.records[0].evaluation

    @property
    def after(self) -> Mapping[str, SuccessRate]:
        """Environment → success rate of the final adapter, or of the one of the site that has the environment."""
        return self.records[-1].evaluation


def run(
    config: RunConfig,
    folder: Path | str,
    *,
    resume: bool = False,
    listener: Listener = silent,
    baselines: Iterable[Path] = (),
    runtime: str = "local",
) -> RunResult:
    """Run a federation from its configuration, or go on with it.

    Killed at any moment and resumed, it ends with the same adapters and metrics, byte for byte but for seconds, as if
    it had never been interrupted (on one machine with one set of versions).  A finished run returns its result at once.

    Args:
        config: what to run.
        folder: the run folder; see :mod:`fedse.runs.layout`.
        resume: go on in a folder that has a run already, or begin one.
        listener: told of progress; an exception that it raises stops the run, which can then be resumed.
        baselines: other runs on this machine; where one has played the same episodes with the bare base model, they are
            taken over (:mod:`fedse.sites.baseline`).
        runtime: ``local``, or ``flower``: Flower's simulation moves the messages.  No result depends on it.

    Raises:
        RunError: if the folder cannot be used; see :func:`fedse.runs.folder.open_server`.
        ConfigError, UnknownNameError: if the configuration names something that does not exist or cannot work.
        ModelError: if the base model cannot be loaded.
        EnvironmentFault: if an environment is broken; what was done before is kept, and the run can be resumed.
        EndpointError: if the endpoint that plays cannot be used, or was away for too long; likewise.
        StorageError, StoreError: if a file cannot be written; likewise.
    """
    strategy_of(config)  # before anything is loaded or written
    begin = runtimes(config.workers)
    if runtime not in begin:
        raise unknown_name("runtime", runtime, begin)
    folder = Path(folder)
    root = RunFolder(folder)
    with storage_errors("open", folder):
        if folder.exists() and any(folder.iterdir()) and not root.server.root.exists():
            raise RunError(f"{folder} is not empty, and no run folder", "choose another folder")
    with open_server(config, root.server, resume=resume, software=lambda: versions(config)):
        if len(read_records(root.server)) <= config.rounds:
            recover_below(root.sites)
            with begin[runtime](config, root, listener, tuple(baselines)) as way:
                Server(config, root.server, way, listener=listener).run()
        ends = {site: adapter_folder(root.server, config.rounds, site) for site in config.sites}
        return RunResult(folder, ends, read_records(root.server))


_Baselines = tuple[Path, ...]
_Begin = Callable[[RunConfig, RunFolder, Listener, _Baselines], AbstractContextManager[Runtime]]


def runtimes(workers: int) -> Mapping[str, _Begin]:
    """Name → how the sites of a run on this machine are reached."""
    return {"local": worker_runtime if workers > 1 else _process, "flower": _flower}


def _process(
    config: RunConfig, folder: RunFolder, listener: Listener, baselines: _Baselines
) -> AbstractContextManager[ProcessRuntime]:
    return nullcontext(ProcessRuntime(SiteHost(config, folder, listener=listener, baselines=baselines)))


@contextmanager
def _flower(config: RunConfig, folder: RunFolder, listener: Listener, baselines: _Baselines) -> Iterator[Runtime]:
    from fedse.federation.runtimes.flower.simulation import simulation

    with (
        _process(config, folder, listener, baselines) as here,
        simulation(list(config.sites), here.answer) as way,
    ):
        yield way
