"""Doing a suite: its cells side by side, each an ordinary run, and its table brought up to date as they end.

Finished runs of other suites can be taken over instead of running the same again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from fedse.errors import RunError
from fedse.progress import Event
from fedse.runs.folder import locked
from fedse.runs.identity import run_key
from fedse.runs.layout import RunFolder
from fedse.settings import dump_config
from fedse.storage import atomic_directory, atomic_write, recover, storage_errors, write_json
from fedse.suites.cells import FAILURE_SCHEMA, Cell, SuiteLayout
from fedse.suites.checking import begun, check_folder, check_is_suite
from fedse.suites.loading import dump_suite
from fedse.suites.progress import Step, SuiteEvent, SuiteListener
from fedse.suites.reading import CellResult, CellState, SuiteResults, read_cell, read_results, read_suite
from fedse.suites.rendering import as_csv, markdown
from fedse.suites.suite import Suite
from fedse.suites.table import suite_table
from fedse.suites.workers import Failed, do_cells, environments


def run_suite(
    suite: Suite,
    folder: Path,
    *,
    resume: bool = False,
    jobs: int | None = None,
    reuse: Sequence[Path] = (),
    listener: SuiteListener = lambda _: None,
) -> SuiteResults:
    """Run a suite, or go on with it.

    Killed at any moment and resumed, it ends with the same table, byte for byte, as if it had never been interrupted
    (on one machine with one set of versions).  What is done stays done; what had begun goes on within its run; what
    had failed is tried again.  A suite may be resumed with further methods, models or seeds, not with fewer; a further
    method of the same configuration as an earlier one has to stand after it.  A cell that fails does not stop the
    others; its result says so, and why.

    Args:
        suite: what to run.
        folder: see :mod:`fedse.suites.cells`.
        resume: go on in a folder that has a suite already, or begin one.
        jobs: cells at work side by side; by default as the suite says.  No result depends on it.
        reuse: folders of other suites; their finished runs are copied to the cells of the same configuration that have
            not begun.
        listener: told of progress; an exception that it raises stops the suite, which can then be resumed.

    Raises:
        RunError: if the folder cannot be used: another process works in it, it has a suite and ``resume`` is not given,
            a cell was begun with another configuration, or it holds something else; or if a folder of ``reuse`` is no
            other suite.
        ConfigError: if the configuration of a cell is not valid.
        StorageError: if a file cannot be written; what was done is kept, and the suite can be resumed.
    """
    with _open(suite, folder, resume=resume) as layout:
        for donated in list(reusable(read_results(suite, folder), reuse)):
            _take_over(donated, folder)
            own = read_cell(donated.cell, folder)
            listener(SuiteEvent(Step.TAKEN_OVER, own.cell, result=own))
        pending = pending_cells(read_results(suite, folder))
        machines = environments(pending, jobs or suite.jobs)
        with closing(do_cells(pending, folder, machines, suite=suite.cells())) as messages:
            for cell, message in messages:
                failure = cell.failure(folder)
                if message is Step.STARTED:
                    with storage_errors("remove", failure):
                        failure.unlink(missing_ok=True)
                    listener(SuiteEvent(Step.STARTED, cell))
                elif isinstance(message, Event):
                    listener(SuiteEvent(Step.PROGRESS, cell, progress=message))
                else:
                    step = Step.DONE
                    if isinstance(message, Failed):
                        step = Step.FAILED
                        write_json(failure, {"schema_version": FAILURE_SCHEMA, **asdict(message)})
                    write_tables(suite, layout)
                    listener(SuiteEvent(step, cell, result=read_cell(cell, folder)))
        return write_tables(suite, layout)


def pending_cells(results: SuiteResults) -> list[Cell]:
    """The cells that are still to be run; of those that share a run, its home."""
    return [found.cell for found in results.cells if found.state is not CellState.DONE and not found.cell.is_shared]


def reusable(results: SuiteResults, donors: Iterable[Path]) -> Iterator[CellResult]:
    """The cells that have not begun and that another suite has done, with the folder and the records that it has.

    What makes the same run is told in :mod:`fedse.runs.identity`.

    Args:
        results: the suite as it is.
        donors: folders of other suites, packed ones included; of several that have a run the first gives it.

    Raises:
        RunError: if a donor is the suite's own folder or no suite, or its records are damaged.
        ConfigError: if a donor's suite is not valid.
        StorageError: if a file cannot be read.
    """
    donations: dict[str, CellResult] = {}
    for donor in donors:
        if donor.resolve() == results.folder.resolve():
            raise RunError(f"{donor} is the suite's own folder", "its runs are its own already; use --resume")
        for found in read_suite(donor).cells:
            if found.state is CellState.DONE:
                donations.setdefault(run_key(found.cell.config), found)
    for found in results.cells:
        if found.state is CellState.MISSING and not found.cell.is_shared:
            donated = donations.get(run_key(found.cell.config))
            if donated is not None:
                yield replace(donated, cell=found.cell)


def _take_over(donated: CellResult, root: Path) -> None:
    """Copy a finished run to the cell's place in a suite's folder: whole, or with a ``StorageError`` not at all."""
    with atomic_directory(donated.cell.folder(root)) as made:
        lock = RunFolder(donated.folder).server.lock.name
        shutil.copytree(donated.folder, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lock))
        atomic_write(RunFolder(made).server.config, dump_config(donated.cell.config))


@contextmanager
def _open(suite: Suite, folder: Path, *, resume: bool) -> Iterator[SuiteLayout]:
    layout = SuiteLayout(folder)
    check_is_suite(folder)
    with storage_errors("open", folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not layout.lock.exists():  # so nobody is at work, and what is refused is left without one
        _check(suite, folder, resume=resume)
    with locked(layout.lock):
        for place in {folder, *(cell.folder(folder).parent for cell in suite.cells())}:
            if place.is_dir():
                recover(place)
        _check(suite, folder, resume=resume)
        atomic_write(layout.suite, dump_suite(suite))
        yield layout


def _check(suite: Suite, folder: Path, *, resume: bool) -> None:
    """Refuse a folder whose suite is not this one, or is not to go on; nothing is written."""
    if begun(folder) and not resume:
        raise RunError(
            f"{folder} has a suite already", "use --resume to go on with it, or choose another folder with --out"
        )
    check_folder(suite, folder)


def write_tables(suite: Suite, layout: SuiteLayout) -> SuiteResults:
    """Bring the tables of a suite's folder up to date with what is in it.

    Raises:
        RunError, StorageError: if a cell's records are damaged, or a file cannot be read or written.
    """
    results = read_results(suite, layout.root)
    table = suite_table(results)
    atomic_write(layout.markdown, markdown(table))
    atomic_write(layout.csv, as_csv(table))
    return results
