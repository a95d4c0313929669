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
from typing import Any

#: glibc's ``mallopt`` parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next use, instead of giving it back to the system.

    A rollout's cache grows and goes, and an update's activations come and go; each time their pages come anew from the
    system, which zeroes them one by one.  Blocks above 32 MiB, glibc's limit, are given back as ever, so large models
    keep no more than they did.  Changes no result.

    Returns:
        Whether the C library took it: only glibc has these settings.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
    refused = [parameter for parameter, value in settings.items() if mallopt(parameter, value) != 1]
    return not refused


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
