from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from fedse.errors import RunError
from fedse.evaluation.rates import wilson_interval
from fedse.runs.layout import RunFolder
from fedse.storage import write_json
from fedse.suites import CellState, SuiteLayout, read_suite
from fedse.suites.packing import pack_suite
from fedse.suites.rendering import as_csv, cells, headings, legend, markdown
from fedse.suites.table import SuiteTable, TableRow, suite_table
from fedse.types import SuccessRate
from helpers.made_suites import TWO_SITES, begin, begin_cell, cell, fail, finish, suite

MADE = suite(TWO_SITES)
ALL, NONE, HALF = [True] * 20, [False] * 20, [True, False] * 10


def rate(successes: int, episodes: int) -> SuccessRate:
    return SuccessRate(successes, episodes, 0, *wilson_interval(successes, episodes))


def table(root: Path) -> SuiteTable:
    return suite_table(read_suite(root))


def row(found: SuiteTable, method: str) -> TableRow:
    [only] = [row for row in found.rows if row.method.name == method]
    return only


def counts(found: TableRow) -> dict[str, tuple[int, int]]:
    return {name: (rate.successes, rate.episodes) for name, rate in found.standing.rates.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Fed-SE and FedIT are done; of FedIT one seed is better in Wordle than the other."""
    begin(MADE, tmp_path)
    for seed in (0, 1):
        finish(cell(MADE, "fed-se", seed), tmp_path, {"maze": ALL, "wordle": HALF})
        finish(cell(MADE, "fedit", seed), tmp_path, {"maze": HALF, "wordle": HALF if seed else NONE})
    return tmp_path


def test_seeds_are_pooled_and_environments_count_alike(root: Path) -> None:
    found = row(table(root), "fedit")
    assert found.standing.seeds == (0, 1)
    assert counts(found) == {"maze": (20, 40), "wordle": (10, 40)}
    assert found.standing.means.macro is not None
    assert found.standing.means.macro.value == pytest.approx((0.5 + 0.25) / 2)
    assert found.standing.means.macro.low < found.standing.means.macro.value < found.standing.means.macro.high


def test_an_environments_interval_knows_of_tasks_and_seeds(root: Path) -> None:
    found = table(root)
    maze, wordle = (row(found, "fedit").standing.rates[name] for name in ("maze", "wordle"))
    assert (maze.low, maze.high) == pytest.approx((0.3, 0.7), abs=0.051), "the seeds agree: twenty tasks, not forty"
    assert wordle.low == 0, "one seed in two won nothing"
    assert wordle.high > 0.55
    assert row(found, "fed-se").standing.rates["maze"].low == rate(20, 20).low, (
        "the bootstrap of successes has no width"
    )


def test_the_mean_of_tasks_weighs_large_environments_more(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    finish(cell(MADE, "fed-se", 0), tmp_path, {"maze": [True] * 30, "wordle": [False] * 10})
    found = row(table(tmp_path), "fed-se")
    assert found.standing.means.macro is not None
    assert found.standing.means.task_weighted is not None
    assert (found.standing.means.macro.value, found.standing.means.task_weighted.value) == (
        pytest.approx(0.5),
        pytest.approx(0.75),
    )


def test_the_difference_to_the_reference_is_paired_and_marked(root: Path) -> None:
    found = table(root)
    against = row(found, "fedit").standing.comparison
    assert against is not None
    assert against.macro.difference.value == pytest.approx(0.375 - 0.75)
    assert against.macro.difference.high < 0
    assert (against.environments["maze"].better, against.environments["maze"].worse) == (0, 10)
    assert against.environments["maze"].p_holm == pytest.approx(2 * against.environments["maze"].p)
    assert row(found, "fed-se").standing.comparison is None
    shown = dict(zip(headings(found), cells(found, row(found, "fedit")), strict=True))
    assert shown["maze"] == "50.0 [30, 70] ▼"
    assert shown["difference to Fed-SE"].startswith("-37.5 [")
    assert f"**{shown['difference to Fed-SE']}**" in markdown(found)


def test_what_is_missing_or_failed_is_shown_as_such(root: Path) -> None:
    fail(cell(MADE, "local", 0), root, "there is no environment\n  → install it")
    begin_cell(cell(MADE, "local", 1), root)
    results = read_suite(root)
    states = {(found.cell.method, found.cell.seed): found.state for found in results.cells}
    assert states["local", 0] is CellState.FAILED
    assert states["local", 1] is CellState.PARTIAL
    assert states["pre-trained", 0] is CellState.MISSING
    assert states["fedit", 0] is CellState.DONE
    assert not results.is_complete
    found = suite_table(results)
    assert cells(found, row(found, "local"))[:3] == ["Local", "0/2, 1 failed", "–"]
    assert cells(found, row(found, "pre-trained"))[1:] == ["0/2", *["–"] * 5]
    assert "- Local: seed 0 failed: there is no environment\n    → install it" in markdown(found)


def test_a_method_with_fewer_seeds_is_compared_on_those_that_both_have(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    finish(cell(MADE, "fed-se", 0), tmp_path, {"maze": ALL, "wordle": ALL})
    for seed, verdicts in ((0, HALF), (1, NONE)):
        finish(cell(MADE, "fedit", seed), tmp_path, {"maze": verdicts, "wordle": verdicts})
    found = row(table(tmp_path), "fedit")
    assert found.standing.means.macro is not None
    assert found.standing.comparison is not None
    assert found.standing.means.macro.value == pytest.approx(0.25)
    assert found.standing.comparison.macro.difference.value == pytest.approx(-0.5)
    assert found.standing.comparison.seeds == 1
    assert "With one training seed" in legend(table(tmp_path))


def test_several_seeds_need_no_caution(root: Path) -> None:
    assert "With one training seed" not in markdown(table(root))


def test_methods_that_share_runs_have_a_row_each(root: Path) -> None:
    text = TWO_SITES.replace("ablations: [no-history, rank-8]", "ablations: [rank-8]")
    begin(suite(text), root)
    found = table(root)
    assert row(found, "rank-8").standing.rates == row(found, "fed-se").standing.rates
    assert cells(found, row(found, "rank-8"))[-1] == "the runs of fed-se"


def test_adapters_of_isolated_sites_are_shown_at_home_and_on_the_other_sites(root: Path) -> None:
    for seed in (0, 1):
        transfer = {
            "west": {"maze": rate(15, 20), "wordle": rate(2 * seed, 20)},
            "east": {"maze": rate(0, 20), "wordle": rate(5, 20)},
        }
        verdicts = {"maze": [True] * 15 + [False] * 5, "wordle": [True] * 5 + [False] * 15}
        finish(cell(MADE, "local", seed), root, verdicts, transfer=transfer)
    found = table(root)
    assert counts(row(found, "local"))["maze"] == (30, 40)
    text = markdown(found)
    assert "| Local | west | (75.0) | 5.0 | 5.0 |" in text
    assert "| Local | east | 0.0 | (25.0) | 0.0 |" in text


def test_tasks_lost_to_faults_are_in_no_rate_and_are_told(root: Path) -> None:
    finish(cell(MADE, "no-history", 0), root, {"maze": [None, *ALL[1:]], "wordle": HALF})
    found = row(table(root), "no-history")
    assert found.standing.rates["maze"] == SuccessRate(19, 19, 1, *wilson_interval(19, 19))
    assert found.notes == ("maze: 1 task lost episodes to faults; the averages leave them out",)
    assert found.standing.comparison is not None


def test_tasks_that_only_the_reference_lost_are_told_with_the_difference(tmp_path: Path) -> None:
    begin(MADE, tmp_path)
    finish(cell(MADE, "fed-se", 0), tmp_path, {"maze": [None, None, *ALL[2:]], "wordle": HALF})
    finish(cell(MADE, "no-history", 0), tmp_path, {"maze": ALL, "wordle": HALF})
    found = row(table(tmp_path), "no-history")
    told = "maze: 2 tasks lost episodes to faults on one side or the other; the difference leaves them out"
    assert found.notes == (told,)
    assert found.standing.comparison is not None
    assert found.standing.comparison.environments["maze"].tasks == 18


def test_a_method_that_played_other_tasks_is_not_compared_but_shown(root: Path) -> None:
    finish(cell(MADE, "pre-trained", 0), root, {"maze": HALF[:10], "wordle": HALF})
    found = row(table(root), "pre-trained")
    assert found.standing.rates["maze"] == rate(5, 10)
    assert found.standing.comparison is None
    assert "10 held-out tasks" in found.notes[0]


@pytest.mark.parametrize("is_packed", [False, True])
def test_notes_name_runs_by_their_place_in_the_suite(root: Path, tmp_path: Path, is_packed: bool) -> None:
    finish(cell(MADE, "pre-trained", 0), root, {"maze": HALF[:10], "wordle": HALF})
    folder = root
    if is_packed:
        folder = tmp_path / "packed"
        pack_suite(root, folder)
    [note] = row(table(folder), "pre-trained").notes
    assert note.startswith("maze: cells/tiny/pre-trained/seed-0 has 10 held-out tasks and cells/tiny/fed-se/seed-0 has")
    assert str(tmp_path) not in markdown(table(folder))
    if is_packed:
        assert str(tmp_path) not in SuiteLayout(folder).markdown.read_text()


def test_runs_of_different_versions_are_told_apart_and_still_compared(root: Path) -> None:
    assert row(table(root), "fedit").notes == ()
    for method, arithmetic in (("fed-se", "float32"), ("fedit", "bfloat16")):
        for seed in (0, 1):
            versions = RunFolder(cell(MADE, method, seed).folder(root)).server.versions
            write_json(versions, {"schema_version": 1, "torch": "2.13.0", "arithmetic": arithmetic})
    found = table(root)
    assert row(found, "fed-se").notes == ()
    assert row(found, "fedit").notes == ("compares runs of different arithmetic: bfloat16, float32",)
    assert row(found, "fedit").standing.comparison is not None


def test_the_csv_holds_what_the_table_shows(root: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(table(root)))))
    [macro] = [line for line in lines if line["method"] == "fedit" and line["statistic"] == "macro"]
    assert float(macro["rate"]) == pytest.approx(0.375)
    assert float(macro["difference"]) == pytest.approx(-0.375)
    [maze] = [line for line in lines if line["method"] == "fedit" and line["environment"] == "maze"]
    assert (maze["seeds"], maze["planned"], maze["worse"]) == ("0 1", "2", "10")
    assert float(maze["p_holm"]) < 0.05


def test_a_folder_that_is_no_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no suite folder"):
        read_suite(tmp_path)
