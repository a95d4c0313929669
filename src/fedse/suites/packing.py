"""A suite's results without its weights: what tables, reports and comparisons read, small enough to publish."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fedse.errors import RunError
from fedse.federation.layout import RunLayout
from fedse.storage import atomic_directory
from fedse.suites.cells import Cell, SuiteLayout
from fedse.suites.reading import CellState, read_suite
from fedse.suites.running import write_tables


def pack_suite(root: Path, target: Path) -> list[Cell]:
    """Copy what the finished cells of a suite recorded: configurations, versions, metrics and held-out episodes.

    Adapters, experience and explored episodes stay behind: of its episodes a site shows only those that it was tested
    on.  The copy is a suite folder: its table and report are those of the original, but for what is computed
    from adapters, and a suite that is resumed in it does the cells that are missing.

    Args:
        root: the suite's folder.
        target: the folder to make.

    Returns:
        The cells that were packed; one that shares another's run is not listed.

    Raises:
        RunError: if ``root`` is no suite or has no finished cell, or ``target`` exists.
        ConfigError: if the suite is not valid.
        StorageError: if a file cannot be read or written; then nothing is left at ``target``.
    """
    if target.exists():
        raise RunError(f"{target} exists already", "choose another folder with --out, or remove it")
    results = read_suite(root)
    cells = [found.cell for found in results.cells if found.state is CellState.DONE and not found.cell.is_shared]
    if not cells:
        raise RunError(f"no run of {root} is done", f"fedse suite run --resume --out {root} goes on with it")
    with atomic_directory(target) as made:
        recorded = [path for cell in cells for path in _recorded(RunLayout(cell.folder(root)))]
        for path in [SuiteLayout(root).suite, *recorded]:
            copy = made / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        write_tables(results.suite, SuiteLayout(made))  # not copied: they may be of an earlier state of the suite
    return cells


def _recorded(run: RunLayout) -> Iterator[Path]:
    yield from (path for path in (run.config, run.versions, run.metrics) if path.is_file())
    for kind in ("evaluation", "transfer"):
        yield from sorted(run.root.glob(f"clients/*/{kind}/*.jsonl.gz"))
