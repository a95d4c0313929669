"""Fault drills over real processes; docs/faults.md has the table of all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from helpers.drills import DRILLS, QUICK, Bench, CannotDrillError, Found


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="fedse-") as folder:  # short: it has the processes' sockets
        yield Bench(Path(folder), cut_seconds=5)


@pytest.mark.parametrize(
    "drill", [pytest.param(drill, marks=pytest.mark.long if drill in QUICK else pytest.mark.slow) for drill in DRILLS]
)
def test_a_fault_ends_with_a_right_result_and_nothing_lost(bench: Bench, drill: Callable[[Bench], list[Found]]) -> None:
    try:
        assert drill(bench)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
