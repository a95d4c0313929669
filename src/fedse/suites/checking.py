"""Whether a suite may be run in a folder, by what is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedse.errors import RunError
from fedse.results.reading import is_run
from fedse.runs.folder import has_results, read_config
from fedse.runs.identity import run_key
from fedse.runs.layout import RunFolder
from fedse.storage import storage_errors
from fedse.suites.cells import Cell, SuiteLayout
from fedse.suites.suite import Suite
from fedse.texts import command


def check_folder(suite: Suite, root: Path) -> None:
    """Check that a suite may begin or go on in a folder.  Nothing is touched, and the folder need not be there.

    Raises:
        RunError: if the folder holds something else than a suite, runs that the suite does not have, or a cell that was
            begun with another configuration.
        ConfigError: if the configuration of a cell is not valid.
        StorageError: if a file cannot be read.
    """
    check_is_suite(root)
    cells = suite.cells()
    _check_same_suite(cells, root)
    _check_same_cells(cells, root)


def check_is_suite(root: Path) -> None:
    """Check that a folder is a suite's, or empty, or not there; see :func:`check_folder`."""
    layout = SuiteLayout(root)
    with storage_errors("open", root):
        is_foreign = root.exists() and any(root.iterdir()) and not (layout.suite.exists() or layout.lock.exists())
    if is_foreign:
        raise RunError(f"{root} is not empty, and no suite folder", "choose another folder")


def begun(root: Path) -> list[Path]:
    """The run folders of a suite that have a configuration."""
    return [folder for folder in sorted(root.glob("cells/*/*/seed-*")) if is_run(folder)]


def _check_same_suite(cells: Sequence[Cell], root: Path) -> None:
    """No run that is there would fall out of the suite, and with it out of the table."""
    kept = {cell.folder(root) for cell in cells}
    foreign = [folder for folder in begun(root) if folder not in kept]
    for cell in cells:
        own = replace(cell, home=cell.method)  # as it would be if no other had the same configuration
        if cell.is_shared and own.folder(root) in foreign:
            raise RunError(
                f"{root} has runs of {cell.method}, before which the suite has {cell.home} of the same configuration",
                f"put {cell.home} after {cell.method}; or choose another folder, and take the runs over with --reuse",
            )
    if foreign:
        listed = "".join(f"\n  - {folder.relative_to(root / 'cells')}" for folder in foreign)
        raise RunError(
            f"{root} has runs that the suite does not have:{listed}",
            "choose another folder, and take over what both have with --reuse; or remove these runs",
        )


def _check_same_cells(cells: Sequence[Cell], root: Path) -> None:
    """What was begun was begun with the configuration that it would go on with."""
    differing = [
        str(cell)
        for cell in cells
        if not cell.is_shared
        and has_results(server := RunFolder(cell.folder(root)).server)
        and run_key(read_config(server)) != run_key(cell.config)
    ]
    if differing:
        again = command("fedse suite run --resume --out", root)
        raise RunError(
            f"{root} has cells of other configurations:" + "".join(f"\n  - {cell}" for cell in differing),
            f"resume it with its own suite ({again}), or choose another folder",
        )
