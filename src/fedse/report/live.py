"""A report that follows a suite or runs while they go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedse.errors import RunError
from fedse.report.page import write_page
from fedse.report.study import Study, is_suite, read_study
from fedse.results.reading import state_of
from fedse.storage import storage_errors
from fedse.suites import SuiteLayout

#: Seconds between two looks at the folders, at least.
POLL_SECONDS = 2.0
#: Seconds after which the page in the browser loads itself anew.
REFRESH_SECONDS = 10
#: The page of a large suite takes its time; following takes no more than a tenth of a core.
_REST = 10


def follow(
    folders: Sequence[Path], page: Path, *, on_page: Callable[[Study], None], wait: Callable[[float], None] = time.sleep
) -> Study:
    """Write the page whenever a run has got further, begins or stops to be worked on, until all are complete.

    Whether a process is at work is told from the lock that it holds, so that a run that has died is known from one that
    is slow.  A dead one is followed on: it may be resumed.  While the work goes on, the page loads itself anew in the
    browser.  Returns the complete study.

    Args:
        folders: of a suite, or of runs; they may be about to begin, but their configuration must be there.
        page: the file to write.
        on_page: told of each page that was written.
        wait: called with the seconds to wait between two looks.

    Raises:
        RunError, ConfigError, AdapterError, StorageError: if a folder is no run, or a file is damaged or unwritable.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"there is no folder {folder} to follow", "begin the run first, then follow it")
    seen: object = None
    while True:
        began = time.monotonic()
        state = _state(folders)
        if state != seen:
            study = read_study(folders, allow_unfinished_start=True)
            write_page(page, study, refresh=None if study.is_complete else REFRESH_SECONDS)
            on_page(study)
            if study.is_complete:
                return study
            seen = state
        wait(max(POLL_SECONDS, _REST * (time.monotonic() - began)))


def _state(folders: Sequence[Path]) -> object:
    """What changes when the work gets further: the states of the runs, and who works on a suite."""
    states: list[object] = []
    for folder in folders:
        with storage_errors("read", folder):
            runs = sorted(folder.glob("cells/*/*/seed-*/")) if is_suite(folder) else [folder]
        states += [[state_of(run) for run in runs if run.is_dir()], SuiteLayout(folder).is_at_work]
    return states
