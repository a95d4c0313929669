"""A suite's results without its weights: what tables, reports and comparisons read, small enough to publish."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fedse.errors import RunError
from fedse.results.exchange import round_conflicts, traffic, write_exchange
from fedse.results.reading import run_at
from fedse.storage import atomic_directory, storage_errors
from fedse.suites.cells import Cell, SuiteLayout
from fedse.suites.reading import CellState, read_suite
from fedse.suites.running import write_tables
from fedse.texts import command


def pack_suite(root: Path, target: Path, listener: Callable[[Cell], None] = lambda _: None) -> list[Cell]:
    """Copy what the finished cells of a suite recorded: configurations, versions, metrics and held-out episodes.

    Adapters, experience and explored episodes stay behind: of its episodes a site shows only those that it was tested
    on.  What reports tell of the adapters is computed and written down.  The copy is a suite folder: its table and
    report are those of the original, but for what took how long, and a suite that is resumed in it does the missing
    cells.

    Args:
        root: the suite's folder.
        target: the folder to make.
        listener: told of every cell as its turn comes; to read all its adapters takes a while.

    Returns:
        The cells that were packed; one that shares another's run is not listed.

    Raises:
        RunError: if ``root`` is no suite or has no finished cell, or ``target`` exists.
        ConfigError, AdapterError: if the suite is not valid, or an adapter is damaged.
        StorageError: if a file cannot be read or written; then nothing is left at ``target``.
    """
    if target.exists():
        raise RunError(f"{target} exists already", "choose another folder with --out, or remove it")
    results = read_suite(root)
    done = [found for found in results.cells if found.state is CellState.DONE and not found.cell.is_shared]
    if not done:
        raise RunError(
            f"no run of {root} is done", f"{command('fedse suite run --resume --out', root)} goes on with it"
        )
    with atomic_directory(target) as made:
        shutil.copyfile(SuiteLayout(root).suite, SuiteLayout(made).suite)
        for found in done:
            listener(found.cell)
            pack_run(found.folder, found.cell.folder(made))
        write_tables(results.suite, SuiteLayout(made))  # not copied: they may be of an earlier state of the suite
    return [found.cell for found in done]


def pack_run(folder: Path, target: Path) -> None:
    """Copy what one finished run recorded, with the errors of :func:`pack_suite`.

    The target is best a folder that is made whole (:func:`fedse.storage.atomic_directory`).
    """
    run = run_at(folder)
    for path in run.published():
        copy = target / path.relative_to(folder)
        with storage_errors("write", copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    conflicts, sent = round_conflicts(run), traffic(run)
    if conflicts or sent:  # neither where no adapters travel, nor in a run that was packed before there was this file
        write_exchange(target / run.exchange_file.relative_to(folder), conflicts, sent)
