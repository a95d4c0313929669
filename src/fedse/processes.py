"""What the processes that do a run's work have in common."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar

#: glibc's ``mallopt`` parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
#: Bytes of freed memory that a process may keep from one phase to the next.
_KEPT = 2**30
_PATIENCE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # of prctl(2), linux/prctl.h


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next use, instead of giving it back to the system.

    A rollout's cache grows and goes, and an update's activations come and go; each time their pages come anew from the
    system, which zeroes them one by one.  Blocks above 32 MiB, glibc's limit, are given back as ever.  Changes no
    result.

    Returns:
        Whether the C library took it: only glibc has these settings.
    """
    settings = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
    refused = [parameter for parameter, value in settings.items() if _libc("mallopt", parameter, value) != 1]
    return not refused


def give_back_freed_memory() -> None:
    """Give what is kept back to the system, if it is over a GiB; for where another kind of work begins.

    Without it, a process comes to hold what playing needs and what training needs, both.
    """
    found = _libc("mallinfo2", kind=_Mallinfo)
    if found is not None and found.fordblks > _KEPT:
        _libc("malloc_trim", 0)


class _Mallinfo(ctypes.Structure):
    """glibc's ``mallinfo2`` (malloc.h), which has bytes in free blocks as ``fordblks``."""

    _fields_: ClassVar = [
        ("others", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def _libc(name: str, *arguments: int, kind: type = ctypes.c_int) -> Any:
    """What a function of the C library returns; ``None`` where it has none of this name."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = kind
    return function(*arguments)


def ending(process: BaseProcess, fewer: str) -> tuple[str, str]:
    """How a spawned process has ended that answers no more, and what to do about it.

    Args:
        process: is waited for, or killed after some seconds.
        fewer: how to need less memory.
    """
    process.join(_PATIENCE_SECONDS)
    process.kill()
    process.join()
    code = process.exitcode or 0
    if code < 0:
        return f"was killed by signal {-code}", f"the system may have run out of memory: {fewer}"
    guard = 'if __name__ == "__main__":'
    mend = f"what it said is above; a script that starts workers does so below a line {guard}, because they run it, too"
    return f"ended with status {code}", mend


def end_with_parent() -> None:
    """End this worker at once when its parent is gone, however it went.

    Nobody else may write in a run folder when its run is resumed.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has a parent to end with"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with(parent: int) -> None:
    """Have the system end this process when its parent, a process of this number, is gone (Linux only)."""
    if sys.platform == "linux":
        _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before we asked
            os._exit(1)


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGTERM and the first Ctrl-C set ``stop``; a second Ctrl-C interrupts.  For the main thread."""

    def asked(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    with _handling(asked, signal.SIGTERM, signal.SIGINT):
        yield


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM interrupts as Ctrl-C does.  For the main thread."""
    with _handling(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _handling(handler: Callable[[int, Any], Any], *signals: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
