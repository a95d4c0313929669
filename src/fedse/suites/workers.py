"""Worker processes that do the cells of a suite, one after the other each, and what each gets of the machine."""

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
from typing import cast

from fedse.config import RunConfig
from fedse.errors import FedseError, VersionWarning
from fedse.processes import end_with_parent, ending, give_back_freed_memory, keep_freed_memory
from fedse.progress import Event
from fedse.results.reading import run_is_at_work
from fedse.suites.cells import Cell, siblings
from fedse.suites.progress import Step

#: How often at most a running cell tells of its progress.
_PULSE_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
#: How long a cell waits for the worker of a suite that was killed a moment ago to end, as it does by itself.
_LEGACY_SECONDS = 30.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell's run ended: with what error and how to mend it, and where, which is empty if the process died."""

    error: str
    trace: str


#: The step that a cell has begun with or is done with, how its run goes, or that it has failed.
Message = Step | Event | Failed


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


def environments(cells: Sequence[Cell], jobs: int | None) -> list[Mapping[str, str]]:
    """Environment variables for each worker process of a suite.

    On a CPU a process uses one thread, however many processes there are: then no result depends on their number, and a
    small model gains little from a second thread.  On GPUs a process sees one of them.

    Args:
        cells: what there is to do.
        jobs: number of processes; by default one per core, or one per GPU.
    """
    devices = {cell.config.model.device for cell in cells}
    if any(device.startswith("cuda:") for device in devices):  # somebody has chosen
        return [{}] * min(len(cells), jobs or 1)
    gpus = _gpus() if devices - {"cpu"} else []
    count = min(len(cells), jobs or len(gpus) or _cores())
    if gpus:
        return [{_VISIBLE: gpus[number % len(gpus)]} for number in range(count)]
    return [{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}] * count


def _gpus() -> list[str]:
    """What to call each GPU in the environment variable that says which may be used."""
    import torch  # seconds

    visible = os.environ.get(_VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names if torch.cuda.is_available() else []


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def do_cells(
    cells: Sequence[Cell], root: Path, variables: Sequence[Mapping[str, str]], *, suite: Sequence[Cell] = ()
) -> Generator[tuple[Cell, Message]]:
    """Do cells side by side, and tell what happens to them as it happens.

    A cell that fails, or whose process dies, does not stop the others.  All processes end with the iterator, and with
    this process, however it ends.

    Args:
        cells: what to do, in this order.
        root: the suite's folder.
        variables: of the environment of each worker process; see :func:`environments`.
        suite: cells that were or will be done in the same folder; what they found out about the base model is not found
            out again.
    """
    waiting = deque(cells)
    idle = [_start(environment) for environment in variables]
    busy: dict[Connection, tuple[_Worker, Cell]] = {}
    try:
        while waiting or busy:
            while idle and waiting:
                worker, cell = idle.pop(), waiting.popleft()
                busy[worker.pipe] = (worker, cell)
                yield cell, Step.STARTED
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
        return cast(Message, worker.pipe.recv())
    except (EOFError, OSError):
        how, mend = ending(worker.process, "go on with --resume and fewer --jobs")
        worker.end()
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
        give_back_freed_memory()
        pipe.send(answer)


def _attempt(config: RunConfig, folder: Path, others: Sequence[Path], pipe: Connection) -> Step | Failed:
    try:
        from fedse.federation.run import run

        deadline = time.monotonic() + _LEGACY_SECONDS
        while run_is_at_work(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
        run(config, folder, resume=True, listener=_Pulse(pipe), baselines=others)
    except Exception as error:
        told = str(error) if isinstance(error, FedseError) else f"{type(error).__name__}: {error}"
        return Failed(told, "".join(traceback.format_exception(error)))
    return Step.DONE


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
