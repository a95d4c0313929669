"""Sites in worker processes, which work side by side.

On a CPU the operations of a small model are too small to keep several cores busy, so two sites side by side on half
the cores each are done sooner than one after the other on all of them.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from fedse.config import RunConfig
from fedse.errors import FedseError, RunError
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.process import usable
from fedse.processes import end_with_parent, ending, keep_freed_memory
from fedse.progress import Event, Listener
from fedse.runs.layout import RunFolder
from fedse.sites.host import SiteHost

_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Failed:
    """A worker's answer where a site refused.

    Attributes:
        error: what it raised; errors of others than fedse come as a RuntimeError that says what they were, because
            not every exception can be sent.
        trace: where, as text.
    """

    error: Exception
    trace: str


@dataclass(frozen=True, slots=True)
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection


@dataclass(frozen=True, slots=True)
class _Asked:
    """An instruction to a site, and its number among those that were given at once."""

    index: int
    site: str
    data: bytes


class WorkerRuntime(Runtime):
    """The sites of a run, done by worker processes that load the base model once each.

    Any worker answers for any site.  The sites that are asked at once are divided among the workers, so that all are
    busy for about as long as these sites were the last time; in a worker they play together.  Each uses its share of
    the processor's cores.  The workers end with this process, however it ends.

    Args:
        workers: the processes.
        listener: told of progress; an exception that it raises ends :meth:`ask`.
    """

    def __init__(self, workers: Sequence[_Worker], listener: Listener) -> None:
        self._workers = workers
        self._listener = listener
        #: What each site took the last time.
        self._seconds: dict[str, float] = {}

    def ask(
        self,
        instructions: Iterable[tuple[str, bytes]],
        *,
        deadline: float | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[int, bytes]]:
        """See :class:`fedse.federation.runtimes.Runtime`; a worker is waited for."""
        busy = {}
        for worker, share in zip(self._workers, self._divided(list(instructions)), strict=True):
            if share:
                _send(worker, share)
                busy[worker.pipe] = len(share)
        behind = {worker.pipe: worker for worker in self._workers}
        while busy:
            for pipe in [pipe for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
                message = _receive(behind[pipe])
                if isinstance(message, Event):
                    self._listener(message)
                    continue
                if isinstance(message, _Failed):
                    _raise(message)
                index, site, reply, seconds = message
                self._seconds[site] = seconds
                busy[pipe] -= 1
                if not busy[pipe]:
                    del busy[pipe]
                yield index, reply

    def _divided(self, instructions: Sequence[tuple[str, bytes]]) -> list[list[_Asked]]:
        """A share for each worker: the longest work first, always to who has least."""
        known = list(self._seconds.values())
        unknown = sum(known) / len(known) if known else 1.0
        asked = [_Asked(index, site, data) for index, (site, data) in enumerate(instructions)]
        costs = {one.index: self._seconds.get(one.site, unknown) for one in asked}
        shares: list[list[_Asked]] = [[] for _ in self._workers]
        loads = [0.0] * len(shares)
        for one in sorted(asked, key=lambda one: -costs[one.index]):
            least = loads.index(min(loads))
            shares[least].append(one)
            loads[least] += costs[one.index]
        return shares


@contextmanager
def worker_runtime(
    config: RunConfig, folder: RunFolder, listener: Listener, baselines: Sequence[Path] = ()
) -> Iterator[WorkerRuntime]:
    """Start ``config.workers`` processes and end them with the block.

    Raises:
        RunError: if a worker dies.
        FedseError: if the sites cannot be set up; see :class:`fedse.sites.host.SiteHost`.
    """
    # Not fork: a child of a process whose numeric libraries have started threads may hang.
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for number in range(config.workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, config, folder, tuple(baselines))
            process = context.Process(target=_work, args=arguments, name=f"fedse-worker-{number}", daemon=True)
            process.start()
            theirs.close()  # so that reading ends when the worker does
            workers.append(_Worker(process, ours))
        for worker in workers:
            if isinstance(failed := _receive(worker), _Failed):
                _raise(failed)
        yield WorkerRuntime(workers, listener)
    finally:
        for worker in workers:
            worker.pipe.close()  # an idle worker ends by itself then, and a busy one when it next tells of its progress
        for worker in workers:
            worker.process.join(_PATIENCE_SECONDS)
            worker.process.terminate()
            worker.process.join()


def _send(worker: _Worker, asked: Sequence[_Asked]) -> None:
    try:
        worker.pipe.send(asked)
    except OSError as cause:
        raise _died(worker) from cause


def _receive(worker: _Worker) -> Any:
    try:
        return worker.pipe.recv()
    except (EOFError, OSError) as cause:
        raise _died(worker) from cause


def _died(worker: _Worker) -> RunError:
    how, mend = ending(worker.process, "resume with fewer workers (workers=1)")
    return RunError(f"a worker process died: it {how}", mend)


def _raise(failed: _Failed) -> NoReturn:
    failed.error.add_note(f"In a worker process:\n{failed.trace}")
    raise failed.error


def _work(pipe: Connection, config: RunConfig, folder: RunFolder, baselines: tuple[Path, ...]) -> None:
    """A worker's life: set the sites up, then do what is asked until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what follows
    end_with_parent()
    keep_freed_memory()
    _prepare_libraries(config.workers)
    try:
        host = SiteHost(config, folder, listener=pipe.send, baselines=baselines)
    except Exception as error:
        pipe.send(_failure(error))
        return
    pipe.send(None)
    try:
        while True:
            asked = pipe.recv()
            try:
                for answered in host.answer_all([(one.site, one.data) for one in asked]):
                    one = asked[answered.index]
                    pipe.send((one.index, one.site, usable(answered), answered.seconds))
            except Exception as error:
                pipe.send(_failure(error))
    except (EOFError, OSError):  # nobody asks any more
        return


def _failure(error: Exception) -> _Failed:
    known = error if isinstance(error, FedseError) else RuntimeError(f"{type(error).__name__}: {error}")
    return _Failed(known, "".join(traceback.format_exception(error)))


def _prepare_libraries(workers: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
