"""Finished runs of other suites, which a suite takes over instead of running the same again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from fedse.errors import RunError
from fedse.runs.identity import run_key
from fedse.runs.layout import RunFolder
from fedse.settings import dump_config
from fedse.storage import atomic_directory, atomic_write
from fedse.suites.reading import CellResult, CellState, SuiteResults, read_suite


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
    finished = [found for donor in donors for found in _finished(donor, results)]
    donations = {run_key(found.cell.config): found for found in reversed(finished)}
    for found in results.cells:
        if found.state is CellState.MISSING and not found.cell.is_shared:
            donated = donations.get(run_key(found.cell.config))
            if donated is not None:
                yield replace(donated, cell=found.cell)


def take_over(donated: CellResult, root: Path) -> None:
    """Copy a finished run to the cell's place in a suite's folder: whole, or with a ``StorageError`` not at all."""
    with atomic_directory(donated.cell.folder(root)) as made:
        lock = RunFolder(donated.folder).server.lock.name
        shutil.copytree(donated.folder, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lock))
        atomic_write(RunFolder(made).server.config, dump_config(donated.cell.config))


def _finished(donor: Path, results: SuiteResults) -> list[CellResult]:
    if donor.resolve() == results.folder.resolve():
        raise RunError(f"{donor} is the suite's own folder", "its runs are its own already; use --resume")
    return [found for found in read_suite(donor).cells if found.state is CellState.DONE]
