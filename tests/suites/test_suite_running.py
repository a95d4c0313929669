"""Suites on the tiny model: results, failures, and kills at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedse.cli.subject import find
from fedse.diagnostics.rounds import diagnose
from fedse.errors import RunError
from fedse.federation.run import run
from fedse.progress import Phase
from fedse.runs.folder import locked
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.suites import Suite, SuiteLayout, load_suite
from fedse.suites.packing import pack_suite
from fedse.suites.progress import Step, SuiteEvent
from fedse.suites.reading import read_results
from fedse.suites.running import pending_cells, reusable, run_suite
from helpers.made_suites import TINY, begin_cell, cell, suite

SMALL = suite(TINY)

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, warm_workers: None) -> Path:
    """The folder of the small suite, done without interruption, two cells side by side."""
    root = tmp_path_factory.mktemp("suite") / "whole"
    events: list[SuiteEvent] = []
    results = run_suite(SMALL, root, jobs=2, listener=events.append)
    assert results.is_complete, [found.error for found in results.cells]
    for step in (Step.STARTED, Step.DONE):
        assert sum(event.step is step for event in events) == 6
    assert any(event.progress is not None and event.progress.round == 2 for event in events)
    return root


def digests(root: Path, made: Suite) -> dict[str, list[str]]:
    """Cell → digests of its adapters, round by round."""
    return {
        str(found): [record.adapter for record in read_records(RunFolder(found.folder(root)).server)]
        for found in made.cells()
    }


def tables(root: Path) -> tuple[bytes, bytes]:
    layout = SuiteLayout(root)
    return layout.markdown.read_bytes(), layout.csv.read_bytes()


def start(root: Path, *words: str) -> subprocess.Popen[bytes]:
    """``fedse suite run`` as a process group of its own."""
    file = root.with_name(f"{root.name}.yaml")
    file.write_text(TINY)
    command = [sys.executable, "-m", "fedse", "suite", "run", str(file), "--out", str(root), *words]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def members(group: int) -> list[int]:
    """The living processes of a process group; those that nobody has waited for count as dead."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def test_cells_are_ordinary_runs_and_the_table_is_written(finished: Path) -> None:
    folder = cell(SMALL, "fedit", 1).folder(finished)
    assert [record.round for record in read_records(RunFolder(folder).server)] == [0, 1, 2]
    assert load_suite(finished) == SMALL
    assert "| FedIT | 2 |" in SuiteLayout(finished).markdown.read_text()
    assert not (finished / "cells" / "tiny" / "rank-8").exists()


def test_the_base_model_is_evaluated_once_for_all_methods_of_a_seed(tmp_path: Path) -> None:
    root = tmp_path / "one-by-one"
    played: list[str] = []

    def listener(event: SuiteEvent) -> None:
        told = event.progress
        if told is not None and told.phase is Phase.EVALUATE and told.round == 0 and told.seconds > 0:
            played.append(str(event.cell))

    assert run_suite(SMALL, root, jobs=1, listener=listener).is_complete
    assert set(played) == {"tiny/pre-trained/seed-0", "tiny/pre-trained/seed-1"}
    alone = tmp_path / "alone"
    found = cell(SMALL, "fed-se", 1)
    run(found.config, alone)
    begun, kept = (
        RunFolder(folder).site("site").environment("site").evaluation(0) for folder in (alone, found.folder(root))
    )
    assert begun.read_bytes() == kept.read_bytes()
    assert [record.evaluation for record in read_records(RunFolder(alone).server)] == [
        record.evaluation for record in read_records(RunFolder(found.folder(root)).server)
    ]


def test_a_finished_suite_is_not_run_again(finished: Path) -> None:
    before = tables(finished)
    events: list[SuiteEvent] = []
    assert run_suite(SMALL, finished, resume=True, listener=events.append).is_complete
    assert events == []
    assert tables(finished) == before
    with pytest.raises(RunError, match="has a suite already"):
        run_suite(SMALL, finished)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans in /proc")
def test_a_suite_killed_again_and_again_ends_with_the_same_table(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"

    process = start(root, "--jobs", "1")
    wait_for(lambda: list(root.glob("cells/*/*/*/sites/*/phases/*")))
    process.kill()  # the parent alone: its children must follow
    process.wait()
    wait_for(lambda: not members(process.pid), seconds=60)

    process = start(root, "--jobs", "2", "--resume")
    wait_for(lambda: list(root.glob("cells/*/fedit/seed-0/server/rounds/001/global")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert pending_cells(read_results(SMALL, root))

    results = run_suite(SMALL, root, resume=True, jobs=1)
    assert results.is_complete
    assert digests(root, SMALL) == digests(finished, SMALL)
    assert tables(root) == tables(finished)


def test_a_cell_that_fails_or_dies_does_not_stop_the_others_and_is_tried_again(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "failing"
    blocked = cell(SMALL, "fed-se", 0)
    blocker = blocked.folder(root) / "notes.txt"
    dying = cell(SMALL, "fedit", 1)
    killed: list[int] = []

    def listener(event: SuiteEvent) -> None:
        if event.step is Step.STARTED and event.cell == blocked:
            blocker.parent.mkdir(parents=True)
            blocker.write_text("this is no run")
        if event.progress is not None and event.cell == dying and not killed:
            for child in multiprocessing.active_children():
                killed.append(child.pid or 0)
                child.kill()

    results = run_suite(SMALL, root, jobs=1, listener=listener)
    failed = {(found.cell.method, found.cell.seed): found.error for found in results.cells if found.error}
    assert failed.keys() == {("fed-se", 0), ("rank-8", 0), ("fedit", 1)}
    assert "is not empty, and no run folder" in failed["fed-se", 0]
    assert "was killed by signal 9" in failed["fedit", 1]
    assert "1/2, 1 failed" in SuiteLayout(root).markdown.read_text()

    blocker.unlink()
    tried: list[str] = []

    def note(event: SuiteEvent) -> None:
        if event.step is Step.STARTED:
            tried.append(str(event.cell))

    results = run_suite(SMALL, root, resume=True, jobs=1, listener=note)
    assert tried == [str(blocked), str(dying)]
    assert results.is_complete
    assert tables(root) == tables(finished)


def test_a_suite_may_be_resumed_with_more_but_not_with_other_cells(finished: Path) -> None:
    more = suite(TINY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    assert [found.seed for found in pending_cells(read_results(more, finished))] == [2, 2, 2]
    other = suite(TINY.replace("steps: 1", "steps: 2"))
    with pytest.raises(RunError, match="cells of other configurations:\n  - tiny/pre-trained/seed-0"):
        run_suite(other, finished, resume=True)


@pytest.mark.parametrize("is_packed", [False, True])
def test_finished_runs_of_other_suites_are_taken_over(finished: Path, tmp_path: Path, is_packed: bool) -> None:
    donor = finished
    if is_packed:
        donor = tmp_path / "packed"
        pack_suite(finished, donor)
    mine = suite(TINY.replace("name: small", "name: mine").replace("[rank-8]", "[no-history]").replace("[0, 1]", "[1]"))
    root = tmp_path / "mine"
    told: list[tuple[str, Step]] = []

    def listener(event: SuiteEvent) -> None:
        if event.progress is None:
            told.append((event.cell.method, event.step))

    assert run_suite(mine, root, jobs=1, reuse=[donor], listener=listener).is_complete
    taken = [(method, Step.TAKEN_OVER) for method in ("pre-trained", "fedit", "fed-se")]
    assert told == [*taken, ("no-history", Step.STARTED), ("no-history", Step.DONE)]
    for method, _ in taken:
        copied, original = (RunFolder(cell(SMALL, method, 1).folder(folder)).server for folder in (root, donor))
        assert read_records(copied) == read_records(original)
        assert copied.global_adapter(0).exists() is original.global_adapter(0).exists() is not is_packed
        assert not copied.lock.exists()


def test_a_run_is_taken_over_under_another_name(finished: Path, tmp_path: Path) -> None:
    mine = suite(TINY.replace("[pre-trained, fedit, fed-se]", "[{method: fed-se, name: ours}]\nreference: ours"))
    events: list[SuiteEvent] = []
    assert run_suite(mine, tmp_path / "mine", reuse=[finished], listener=events.append).is_complete
    assert {event.step for event in events} == {Step.TAKEN_OVER}
    assert run_suite(mine, tmp_path / "mine", resume=True).is_complete, "its configuration is that of the cell"


def test_a_packed_run_says_so_where_adapters_are_needed(finished: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_suite(finished, packed)
    folder = cell(SMALL, "fed-se", 1).folder(packed)
    with pytest.raises(RunError, match="was packed"):
        diagnose(folder)
    with pytest.raises(RunError, match="was packed"):
        find(folder)


def test_only_what_has_not_begun_and_has_the_same_configuration_is_taken_over(finished: Path, tmp_path: Path) -> None:
    other = suite(TINY.replace("steps: 1", "steps: 2"))
    assert not list(reusable(read_results(other, tmp_path / "other"), [finished]))
    assert len(list(reusable(read_results(SMALL, tmp_path / "same"), [finished]))) == 6
    begin_cell(cell(SMALL, "fedit", 0), tmp_path / "same")
    assert len(list(reusable(read_results(SMALL, tmp_path / "same"), [finished]))) == 5


def test_runs_are_taken_over_from_other_suites_only(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no suite folder"):
        run_suite(SMALL, tmp_path / "mine", reuse=[tmp_path])
    with pytest.raises(RunError, match="is the suite's own folder"):
        run_suite(SMALL, finished, resume=True, reuse=[finished])


def test_another_suite_does_not_take_the_place_of_one_that_has_runs(finished: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_suite(finished, packed)
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    other = suite(TINY.replace("[pre-trained, fedit, fed-se]", "[local, self-evolution]\nreference: local"))
    with pytest.raises(RunError, match="has a suite already"):
        run_suite(other, packed)
    with pytest.raises(RunError, match="runs that the suite does not have:\n  - tiny/fed-se/seed-0"):
        run_suite(other, packed, resume=True)
    assert {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()} == before, "no lock is left either"


def test_a_packed_run_is_not_begun_anew(finished: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_suite(finished, packed)
    folder = cell(SMALL, "fed-se", 1).folder(packed)
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    for config in (cell(SMALL, "fedit", 0).config, cell(SMALL, "fed-se", 1).config):
        for resume in (False, True):
            with pytest.raises(RunError, match="was packed"):
                run(config, folder, resume=resume)
    assert before == {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_a_packed_suite_goes_on_but_not_with_other_cells(finished: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_suite(finished, packed)
    with pytest.raises(RunError, match="cells of other configurations:\n  - tiny/pre-trained/seed-0"):
        run_suite(suite(TINY.replace("steps: 1", "steps: 2")), packed, resume=True)
    assert run_suite(SMALL, packed, resume=True).is_complete


def test_a_folder_is_used_by_one_process_and_for_one_purpose(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(RunError, match="not empty, and no suite folder"):
        run_suite(SMALL, tmp_path)

    with locked(SuiteLayout(finished).lock), pytest.raises(RunError, match="another process works in"):
        run_suite(SMALL, finished, resume=True)
