"""The published tables are what the published records say."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures_of_record import FIGURES, SHOWN, figures_of

from fedse.report.figures import write_figures
from fedse.suites import SuiteLayout, read_suite
from fedse.suites.rendering import as_csv, markdown
from fedse.suites.table import suite_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
PAGES = RESULTS.parent / "docs" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/suite.yaml"))


def test_there_are_records() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_published_table_follows_from_its_records(folder: Path) -> None:
    table = suite_table(read_suite(folder))
    assert SuiteLayout(folder).markdown.read_bytes() == markdown(table).encode()
    assert SuiteLayout(folder).csv.read_bytes() == as_csv(table).encode()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_page_shows_the_rows_of_a_published_table(folder: Path) -> None:
    main = SuiteLayout(folder).markdown.read_text(encoding="utf-8").split("\n## On the other sites\n")[0]
    rows = {line for line in main.splitlines() if line.startswith("| ") and not line.startswith(("| method", "| ---"))}
    shown = {line for page in PAGES.glob("*.md") for line in page.read_text(encoding="utf-8").splitlines()}
    assert rows
    assert rows <= shown


@pytest.mark.parametrize("name", SHOWN)
def test_the_figures_are_drawn_from_the_records(name: str, tmp_path: Path) -> None:
    drawn = {path.name: path.read_bytes() for path in write_figures(figures_of(name), tmp_path, kinds=("svg",))}
    shown = {path.name: path.read_bytes() for path in (FIGURES / name).iterdir()}
    assert drawn == shown, "python scripts/figures_of_record.py draws them anew"


def test_there_is_no_figure_that_no_record_is_named_for() -> None:
    assert {path.name for path in FIGURES.iterdir()} == set(SHOWN)
