from __future__ import annotations

from pathlib import Path

import pytest

from fedse.errors import RunError, StorageError
from fedse.report import Study, follow, read_study, render_page
from fedse.report.charts import all_figures
from fedse.results.standings import Standing
from fedse.runs.folder import is_at_work, locked
from fedse.runs.layout import RunFolder
from fedse.suites import SuiteLayout, read_suite
from fedse.suites.packing import pack_suite
from fedse.suites.rendering import legend
from fedse.suites.table import suite_table
from helpers.report_runs import Page, begin, config, episode, finish_round, made_run, made_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_suite(tmp_path_factory.mktemp("suites") / "made")


@pytest.fixture(scope="module")
def study(suite: Path) -> Study:
    return read_study([suite])


@pytest.fixture(scope="module")
def found(study: Study) -> dict[str, Standing]:
    return {standing.group.label: standing for standing in study.standings()}


@pytest.fixture(scope="module")
def page(study: Study) -> Page:
    return Page(render_page(study))


def test_a_suite_is_read_with_its_methods_ablations_and_reference(study: Study) -> None:
    assert [group.label for group in study.methods] == ["Nothing", "Alone", "Together"]
    assert [group.label for group in study.ablations] == ["Rank 2", "The same again"]
    assert [group.label for group in study.references.values()] == ["Together"]
    assert study.is_complete
    assert len(study.runs) == 8  # one method shares the runs of another


def test_the_numbers_are_those_of_the_suites_own_table(suite: Path, found: dict[str, Standing]) -> None:
    rows = {row.method.label: row for row in suite_table(read_suite(suite)).rows}
    assert rows.keys() == found.keys()
    for label, row in rows.items():
        assert found[label].rates == row.standing.rates
        assert found[label].means == row.standing.means
        assert found[label].comparison == row.standing.comparison


def test_differences_have_paired_intervals_and_tests(found: dict[str, Standing]) -> None:
    alone = found["Alone"]
    assert alone.gain is not None
    assert alone.gain.value == pytest.approx((4 + 5 - 11 - 12) / 24)
    assert alone.gain.high < 0
    assert alone.mark_in("maze") == "▼"
    assert found["Together"].gain is None
    same = found["The same again"].gain
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.usefixtures("sketched")
def test_methods_that_do_not_pair_say_why(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / "a"), made_run(tmp_path / "b", name="other", tasks=6)]
    page = Page(render_page(read_study(runs)))
    assert any("other is not compared: maze:" in text for text in page.texts["p"])


def test_the_first_runs_named_are_the_reference_of_the_others(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / "a"), made_run(tmp_path / "b", name="worse", successes=(0, 0, 1))]
    study = read_study(runs)
    assert [group.label for group in study.references.values()] == ["made"]
    [reference, worse] = study.standings()
    assert reference.comparison is None
    assert worse.gain is not None
    assert worse.gain.value == pytest.approx(-5 / 8)


def test_runs_on_different_models_are_not_compared(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / "a"), made_run(tmp_path / "b", name="other", model={"name": "tiny"})]
    assert [standing.reference for standing in read_study(runs).standings()] == [None, None]


def test_every_figure_of_a_suite_is_there(study: Study, found: dict[str, Standing]) -> None:
    parts = {
        part: [figure.name for figure in figures] for part, figures in all_figures(study, [*found.values()]).items()
    }
    assert parts["differences"] == ["difference-together"]
    assert parts["success"] == ["success-mean", "success-wordle", "success-maze"]
    assert parts["ablations"] == ["ablation-together", "success-mean-ablation"]
    assert parts["bytes"] == ["bytes"]
    assert parts["transfer"] == ["transfer-alone"]
    assert parts["conflict"] == [f"conflict-{name}" for name in ("cosine-a", "cosine-b", "dilution", "error")]
    assert len(parts["timeline"]) == 6
    assert all(figures for part, figures in parts.items() if part != "demonstrations")  # which are no axis here


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / "a", name="cost $x_$"), made_run(tmp_path / "b", name="$5_^$")]
    assert "cost $x_$" in render_page(read_study(runs))


def test_isolated_sites_send_nothing_and_have_no_conflict(study: Study, found: dict[str, Standing]) -> None:
    figures = all_figures(study, [*found.values()])
    shown = {row[0] for figure in [*figures["conflict"], *figures["bytes"]] for row in figure.rows}
    assert any(label.startswith("Together") for label in shown)
    assert not any(label.startswith("Alone") for label in shown)
    assert [figure.title for figure in figures["traffic"]] == ["Together: adapters on their way"]


def test_a_packed_suite_has_the_same_figures_but_the_timelines(
    suite: Path, found: dict[str, Standing], study: Study, tmp_path: Path
) -> None:
    pack_suite(suite, tmp_path / "packed")
    pack_suite(tmp_path / "packed", tmp_path / "again")
    whole = all_figures(study, [*found.values()]) | {"timeline": []}
    for folder in (tmp_path / "packed", tmp_path / "again"):
        copy = read_study([folder])
        drawn = all_figures(copy, copy.standings())
        for part, figures in whole.items():
            assert [figure.rows for figure in drawn[part]] == [figure.rows for figure in figures], part


def test_a_damaged_note_of_the_adapters_is_named(suite: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    pack_suite(suite, packed)
    [*_, note] = sorted(packed.glob("cells/*/together/seed-*/server/exchange.json"))
    note.write_text('{"schema_version": 1, "conflicts": [{}]}')
    with pytest.raises(StorageError, match=r"seed-1/server/exchange\.json is damaged"):
        read_study([packed])


def test_the_table_marks_what_is_significant(page: Page) -> None:
    marks = [found for found in page.all("span") if found.get("class") == "worse"]
    assert len(marks) == 4  # two methods in two environments
    assert all("worse than the reference" in str(found["aria-label"]) for found in marks)
    assert "reference" in page.texts["span"]
    assert "[83–100]" in page.texts["small"]  # 11 and 12 of the same 12
    assert any(text.startswith("−") and "[−" in text for text in page.texts["strong"])


def test_the_page_explains_intervals_as_the_suites_own_table_does(suite: Path, page: Page) -> None:
    words = "or Wilson's for an environment with one episode a task, or with nothing but failures or successes"
    assert words in legend(suite_table(read_suite(suite)))
    assert any(words in text for text in page.texts["p"])


@pytest.mark.usefixtures("sketched")
def test_a_suite_under_way_says_what_is_missing_and_compares_what_is_there(tmp_path: Path) -> None:
    missing = [f"smollm2-135m/{cell}" for cell in ("nothing/seed-0", "nothing/seed-1", "alone/seed-1")]
    study = read_study([made_suite(tmp_path / "suite", leave_out=missing)])
    assert not study.is_complete
    assert study.missing == tuple(f"{cell} (missing)" for cell in missing)
    page = Page(render_page(study))
    notices = " ".join(page.texts["span"] + page.texts["p"])
    assert "3 cells missing" in notices
    assert "No process works on it: it has stopped." in notices
    assert "1 of 2" in page.texts["td"]
    [alone] = [standing for standing in study.standings() if standing.group.label == "Alone"]
    assert alone.comparison is not None
    assert alone.comparison.seeds == 1


@pytest.mark.usefixtures("sketched")
def test_a_process_at_work_is_known_by_its_lock(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", successes=(0, 2))
    lock = RunFolder(folder).server.lock
    assert not is_at_work(lock)
    with locked(lock):
        assert is_at_work(lock)
        working = " ".join(Page(render_page(read_study([folder]))).texts["span"])
    assert "A process works on it." in working
    dead = " ".join(Page(render_page(read_study([folder]))).texts["span"])
    assert f"it has stopped. It goes on with fedse run --resume --out {folder}" in dead


@pytest.mark.usefixtures("sketched")
def test_a_page_tells_when_a_run_that_is_followed_dies_and_comes_back(tmp_path: Path) -> None:
    layout = begin(tmp_path / "run", run := config(rounds=1))
    finish_round(layout, run, 0, [episode("a", success=False)])
    states: list[bool] = []
    steps = iter(["begin", "nothing", "end", "finish"])
    lock = locked(layout.server.lock)

    def go_on(_: float) -> None:
        match next(steps):
            case "begin":
                lock.__enter__()
            case "end":
                lock.__exit__(None, None, None)
            case "finish":
                finish_round(layout, run, 1, [episode("a", success=True)])

    def look(study: Study) -> None:
        states.append(study.runs[0].is_at_work)

    follow([tmp_path / "run"], tmp_path / "page.html", on_page=look, wait=go_on)
    assert states == [False, True, False, False]


@pytest.mark.usefixtures("sketched")
def test_a_suite_is_followed_until_it_is_complete(tmp_path: Path) -> None:
    missing = "smollm2-135m/alone/seed-1"
    folder = made_suite(tmp_path / "suite", tasks=3, leave_out={missing})
    counts: list[int] = []

    def go_on(_: float) -> None:
        for path in (SuiteLayout(folder).suite, folder / "cells"):
            path.rename(path.with_name("old"))
            if path.suffix:
                path.with_name("old").unlink()
        made_suite(folder, tasks=3)

    follow([folder], tmp_path / "page.html", on_page=lambda study: counts.append(len(study.missing)), wait=go_on)
    assert counts == [1, 0]


@pytest.mark.usefixtures("sketched")
def test_a_suite_without_results_is_refused_unless_it_is_followed(tmp_path: Path) -> None:
    cells = [str(cell) for cell in read_suite(made_suite(tmp_path / "whole", tasks=1)).suite.cells()]
    folder = made_suite(tmp_path / "suite", leave_out=cells)
    with pytest.raises(RunError, match="no run of the suite"):
        read_study([folder])
    page = Page(render_page(read_study([folder], allow_unfinished_start=True)))
    assert "No round has been evaluated yet." in page.texts["p"]
