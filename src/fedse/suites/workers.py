"""Worker processes that do the cells of a suite, one after the other each."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fedse.config import RunConfig
from fedse.errors import FedseError, VersionWarning
from fedse.processes import end_with_parent, keep_freed_memory
from fedse.progress import Event
from fedse.results.reading import run_is_at_work
from fedse.suites.cells import Cell, siblings

#: How often at most a running cell tells of its progress.
_PULSE_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
#: How long a cell waits for the process of a suite that was killed a moment ago to end.
_LEGACY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Started:
    """A cell was given to a worker."""


@dataclass(frozen=True, slots=True)
class Done:
    """A cell's run is complete."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell's run ended with an error.

    Attributes:
        error: what went wrong and how to mend it.
        trace: where, as text; empty if the process died.
    """

    error: str
    trace: str


Message = Started | Event | Done | Failed


@dataclass(frozen=True, slots=True)
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    environment: Mapping[str, str]

    def end(self) -> None:
        """End the process now: a run can be killed at any moment."""
        self.pipe.close()
        self.process.kill()
        self.process.join(_PATIENCE_SECONDS)

    def dismiss(self) -> None:
        """Let an idle process end by itself, so that it clears up what its libraries made."""
        self.pipe.close()
        self.process.join(_PATIENCE_SECONDS)
        self.end()


def do_cells(
    cells: Sequence[Cell], root: Path, environments: Sequence[Mapping[str, str]], *, suite: Sequence[Cell] = ()
) -> Generator[tuple[Cell, Message]]:
    """Do cells side by side, and tell what happens to them as it happens.

    A cell that fails, or whose process dies, does not stop the others.  All processes end with the iterator, and with
    this process, however it ends.

    Args:
        cells: what to do, in this order.
        root: the suite's folder.
        environments: environment variables of each worker process; their number is that of the processes.
        suite: cells that were or will be done in the same folder; what they found out about the base model is not found
            out again.
    """
    waiting = deque(cells)
    idle = [_start(environment) for environment in environments]
    busy: dict[Connection, tuple[_Worker, Cell]] = {}
    try:
        while waiting or busy:
            while idle and waiting:
                worker, cell = idle.pop(), waiting.popleft()
                busy[worker.pipe] = (worker, cell)
                yield cell, Started()
                with suppress(OSError):  # a dead worker is found out below
                    worker.pipe.send((cell.config, cell.folder(root), siblings(cell, suite, root)))
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                worker, cell = busy[pipe]
                message = _receive(worker)
                if not isinstance(message, Event):
                    del busy[pipe]
                    idle.append(worker if worker.process.is_alive() else _start(worker.environment))
                yield cell, message
    finally:
        for worker, _ in busy.values():
            worker.end()
        for worker in idle:
            worker.dismiss()


def _start(environment: Mapping[str, str]) -> _Worker:
    # Not fork: a child of a process whose numeric libraries have started threads may hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, dict(environment)), name="fedse-suite-worker", daemon=True)
    process.start()
    theirs.close()  # so that reading ends when the worker does
    return _Worker(process, ours, environment)


def _receive(worker: _Worker) -> Message:
    try:
        message: Message = worker.pipe.recv()
        return message
    except (EOFError, OSError):
        worker.end()
        code = worker.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        mend = "the system may have run out of memory: go on with --resume and fewer --jobs"
        return Failed(f"the cell's process {how}\n  → {mend}", "")


def _work(pipe: Connection, environment: dict[str, str]) -> None:
    """A worker's life: do what is asked until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what follows
    end_with_parent()
    keep_freed_memory()
    warnings.simplefilter("ignore", VersionWarning)  # the suite's table has a note of it
    os.environ.update(environment)  # before the libraries that read them are loaded
    while True:
        try:
            config, folder, others = pipe.recv()
        except (EOFError, OSError):  # nobody asks any more
            return
        answer = _attempt(config, folder, others, pipe)
        gc.collect()  # the model of this cell goes before that of the next one comes
        pipe.send(answer)


def _attempt(config: RunConfig, folder: Path, others: Sequence[Path], pipe: Connection) -> Done | Failed:
    try:
        from transformers.utils import logging

        from fedse.federation.run import run

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        _await_end_of_others(folder)
        run(config, folder, resume=True, listener=_Pulse(pipe), baselines=others)
    except Exception as error:
        told = str(error) if isinstance(error, FedseError) else f"{type(error).__name__}: {error}"
        return Failed(told, "".join(traceback.format_exception(error)))
    return Done()


def _await_end_of_others(folder: Path) -> None:
    """Wait for the worker of a suite that was just killed to end, as it does by itself."""
    deadline = time.monotonic() + _LEGACY_SECONDS
    while run_is_at_work(folder) and time.monotonic() < deadline:
        time.sleep(0.1)


class _Pulse:
    """Passes progress on, but not every token."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.finished or now - self._last >= _PULSE_SECONDS:
            self._last = now
            self._pipe.send(event)
