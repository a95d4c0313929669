from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedse.cli.suite_live import live_table
from fedse.progress import Event, Phase
from fedse.suites import Suite, read_suite, workers
from fedse.suites.cells import Cell
from fedse.suites.progress import Step, SuiteEvent, SuiteProgress
from fedse.suites.reading import read_cell
from fedse.suites.workers import environments
from helpers.made_suites import TWO_SITES, begin, cell, fail, finish, suite

MADE = suite(TWO_SITES.replace("ablations: [no-history, rank-8]", "ablations: [rank-8]"))
VERDICTS = {"maze": [True, False], "wordle": [False, False]}


class Follower:
    """A suite that is followed by a clock that the test sets."""

    def __init__(self, root: Path, made: Suite = MADE) -> None:
        begin(made, root)
        self.root = root
        self.now = 0.0
        self.progress = SuiteProgress(read_suite(root), clock=lambda: self.now)

    def tell(self, found: Cell, step: Step, *, round: int | None = None) -> None:
        event = None if round is None else Event(Phase.TRAIN, round, "west", 0, 1)
        result = read_cell(found, self.root) if step in (Step.DONE, Step.FAILED, Step.TAKEN_OVER) else None
        self.progress(SuiteEvent(step, found, event, result))


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


def test_nothing_is_estimated_before_there_is_something_to_go_by(follower: Follower) -> None:
    assert math.isnan(follower.progress.remaining())
    assert (follower.progress.done, follower.progress.total) == (0, 8)


def test_nothing_is_estimated_while_no_running_cell_has_completed_a_round(follower: Follower) -> None:
    for found in [found for found in MADE.cells() if not found.is_shared]:
        follower.tell(found, Step.STARTED)
    follower.now = 10
    assert math.isnan(follower.progress.remaining())


def test_a_cell_is_expected_to_last_like_other_seeds_else_like_other_methods(follower: Follower) -> None:
    for method, took in (("fedit", 10), ("fed-se", 30)):
        found = cell(MADE, method, 0)
        follower.tell(found, Step.STARTED)
        finish(found, follower.root, VERDICTS)
        follower.now += took
        follower.tell(found, Step.DONE)
    assert follower.progress.done == 2
    assert follower.progress.seconds == 40
    unknown = 20  # the mean of the two methods, for two seeds of each of the two others
    assert follower.progress.remaining() == pytest.approx(10 + 30 + 4 * unknown)


def test_a_run_that_is_taken_over_is_done_and_says_how_long_others_may_last(follower: Follower) -> None:
    found = cell(MADE, "fedit", 0)
    finish(found, follower.root, VERDICTS)
    follower.tell(found, Step.TAKEN_OVER)
    assert (follower.progress.done, follower.progress.seconds) == (1, 0)
    assert follower.progress.remaining() == pytest.approx(7 * 10)


def test_a_running_cell_is_expected_to_go_on_as_its_rounds_so_far(tmp_path: Path) -> None:
    lines = [line for line in TWO_SITES.splitlines() if not line.startswith(("methods", "ablations"))]
    made = suite("\n".join([*lines, "methods: [fed-se]"]))
    follower, found = Follower(tmp_path, made), cell(made, "fed-se", 0)
    follower.tell(found, Step.STARTED)
    follower.tell(found, Step.PROGRESS, round=0)
    follower.now = 10
    follower.tell(found, Step.PROGRESS, round=1)
    assert follower.progress.remaining() == pytest.approx(10 + 20)  # its second round, and the other seed's two


def test_a_table_that_is_drawn_while_cells_begin_does_not_break(follower: Follower) -> None:
    first, second = cell(MADE, "fedit", 0), cell(MADE, "fed-se", 0)
    follower.tell(first, Step.STARTED)
    follower.tell(first, Step.PROGRESS, round=0)

    class Meddling(Cell):
        def is_of(self, model: str, method: str) -> bool:
            follower.tell(second, Step.STARTED)  # as the other thread may at any moment
            return super().is_of(model, method)

    [running] = follower.progress.running.values()
    running.cell = Meddling(*(getattr(first, field.name) for field in fields(first)))
    live_table(follower.progress)
    assert len(follower.progress.running) == 2


def test_an_estimate_that_is_made_while_cells_begin_does_not_break(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    later: list[Cell] = []

    def clock() -> float:
        if later:
            progress(SuiteEvent(Step.STARTED, later.pop()))
        return 1.0

    progress = SuiteProgress(read_suite(tmp_path), clock=clock)
    first = cell(MADE, "fedit", 0)
    progress(SuiteEvent(Step.STARTED, first))
    progress(SuiteEvent(Step.PROGRESS, first, Event(Phase.TRAIN, 0, "west", 0, 1)))
    progress(SuiteEvent(Step.PROGRESS, first, Event(Phase.TRAIN, 1, "west", 0, 1)))
    later.append(cell(MADE, "fed-se", 0))
    progress._whole(first)  # asks for the time cell by cell
    assert not later


def test_cells_side_by_side_share_the_time(follower: Follower) -> None:
    first, second = cell(MADE, "fedit", 0), cell(MADE, "fed-se", 0)
    for found in (first, second):
        follower.tell(found, Step.STARTED)
    follower.now = 10
    for found in (first, second):
        finish(found, follower.root, VERDICTS)
        follower.tell(found, Step.DONE)
    assert follower.progress.remaining() == pytest.approx(6 * 10 / 2)


def test_what_failed_before_is_still_to_be_done_and_what_fails_now_is_not(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    fail(cell(MADE, "local", 0), tmp_path, "broken")
    follower = Follower(tmp_path)
    assert follower.progress.failed == 0
    follower.tell(cell(MADE, "local", 0), Step.STARTED)
    follower.tell(cell(MADE, "local", 0), Step.FAILED)
    assert follower.progress.failed == 1
    assert [found.error for found in follower.progress.results("tiny", "local")] == ["broken", ""]


def test_methods_that_share_runs_are_followed_together(follower: Follower) -> None:
    found = cell(MADE, "fed-se", 1)
    follower.tell(found, Step.STARTED)
    finish(found, follower.root, VERDICTS)
    follower.tell(found, Step.DONE)
    shared = follower.progress.results("tiny", "rank-8")
    assert [result.state.value for result in shared] == ["missing", "done"]


def test_on_a_cpu_each_process_has_one_thread_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_cores", lambda: 3)
    cells = MADE.cells()
    for jobs, expected in ((None, 3), (1, 1), (100, len(cells))):
        found = environments(cells, jobs)
        assert len(found) == expected
        assert {environment["OMP_NUM_THREADS"] for environment in found} == {"1"}
    assert len(environments(cells[:2], None)) == 2
    assert environments([], None) == []


@pytest.mark.parametrize(
    ("visible", "jobs", "expected"),
    [(None, None, ["0", "1"]), ("3,5", None, ["3", "5"]), (None, 3, ["0", "1", "0"]), (None, 1, ["0"])],
)
def test_gpus_go_round(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, jobs: int | None, expected: list[str]
) -> None:
    import torch

    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: True, device_count=lambda: 2))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cells = suite(TWO_SITES.replace("device: cpu", "device: auto")).cells()
    found = environments(cells, jobs)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in found] == expected


def test_a_gpu_that_somebody_chose_is_not_chosen_anew() -> None:
    cells = suite(TWO_SITES.replace("device: cpu", "device: 'cuda:1'")).cells()
    assert environments(cells, None) == [{}]
    assert environments(cells, 2) == [{}, {}]
