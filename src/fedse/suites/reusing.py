"""Finished runs of other suites, which a suite takes over instead of running the same again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedse.errors import RunError
from fedse.federation.layout import RunLayout
from fedse.storage import atomic_directory
from fedse.suites.cells import Cell
from fedse.suites.reading import CellState, SuiteResults, read_suite


def reusable(results: SuiteResults, donors: Iterable[Path]) -> Iterator[tuple[Cell, Path]]:
    """The cells that have not begun, with the folder of a finished run of the same configuration, seed included.

    Args:
        results: the suite as it is.
        donors: folders of other suites, packed ones included; of several that have a run the first gives it.

    Raises:
        RunError: if a donor is the suite's own folder or no suite, or its records are damaged.
        ConfigError: if a donor's suite is not valid.
        StorageError: if a file cannot be read.
    """
    finished = [found for donor in donors for found in _finished(donor, results.folder)]
    for found in results.cells:
        if found.state is not CellState.MISSING or found.cell.is_shared:
            continue
        config = found.cell.config
        source = next((folder for other, folder in finished if other.config == config), None)
        if source is not None:
            yield found.cell, source


def take_over(source: Path, target: Path) -> None:
    """Copy a finished run to a cell's folder, whole or not at all.

    Raises:
        StorageError: if a file cannot be read or written.
    """
    with atomic_directory(target) as made:
        shutil.copytree(source, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RunLayout(source).lock.name))


def _finished(donor: Path, own: Path) -> list[tuple[Cell, Path]]:
    if donor.resolve() == own.resolve():
        raise RunError(f"{donor} is the suite's own folder", "its runs are its own already; use --resume")
    return [(found.cell, found.folder) for found in read_suite(donor).cells if found.state is CellState.DONE]
