"""What the processes that do a run's work have in common."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import wait

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
