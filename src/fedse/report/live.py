"""A report that follows a run while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fedse.errors import RunError
from fedse.federation.layout import RunLayout
from fedse.report.page import write_page
from fedse.report.reading import Run, read_run
from fedse.storage import storage_errors

#: Seconds between two looks at the run folder.
POLL_SECONDS = 2.0
#: Seconds after which the page in the browser loads itself anew.
REFRESH_SECONDS = 10


def follow(
    folder: Path, page: Path, *, on_page: Callable[[Run], None], wait: Callable[[float], None] = time.sleep
) -> Run:
    """Write the page of a run whenever the run has got further, until it is complete.

    Args:
        folder: the run folder; its run may be about to begin, but its configuration must be there.
        page: the file to write; while the run goes on, it loads itself anew in the browser.
        on_page: told of each page that was written.
        wait: called with the seconds to wait between two looks.

    Returns:
        The complete run.

    Raises:
        RunError, ConfigError, StorageError: if the folder is no run, or a file is damaged or cannot be written.
    """
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder} to follow", "begin the run first, then follow it")
    seen: object = None
    while True:
        state = _state(RunLayout(folder))
        if state != seen:
            run = read_run(folder, allow_unfinished_start=True)
            write_page(page, [run], refresh=None if run.is_complete else REFRESH_SECONDS)
            on_page(run)
            if run.is_complete:
                return run
            seen = state
        wait(POLL_SECONDS)


def _state(layout: RunLayout) -> object:
    """What changes when the run gets further: its metrics, and the markers of its phases."""
    with storage_errors("read", layout.root):
        markers = sorted(layout.root.glob("clients/*/phases/round-*.json"))
        written = layout.metrics.stat().st_mtime_ns if layout.metrics.exists() else 0
    return written, tuple(markers)
