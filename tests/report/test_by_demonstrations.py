"""A suite with demonstrations as an axis: its table, and the figure of success by demonstrations."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedse.report import read_study, render_page
from fedse.report.charts import all_figures
from fedse.suites import read_suite
from fedse.suites.rendering import markdown
from fedse.suites.table import suite_table
from helpers.made_suites import TWO_SITES, begin, finish, suite

WON = {"fedit": {0: (0, 0), 3: (1, 1), 16: (3, 3)}, "fed-se": {0: (1, 1), 3: (2, 3), 16: (3, 3)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demonstrations")
    made = suite(TWO_SITES + "demonstrations: [0, 3, 16]\n")
    begin(made, root)
    for found in made.cells():
        count = found.config.clients[0].demonstrations
        won = WON.get(found.method, {}).get(count, (0, 0))[found.seed]
        if not found.is_shared:
            finish(found, root, {name: [index < won for index in range(4)] for name in ("maze", "wordle")})
    return root


def test_the_figure_has_a_line_for_each_method_that_has_several_numbers(folder: Path) -> None:
    study = read_study([folder])
    [figure] = all_figures(study, study.standings())["demonstrations"]
    numbers = {row[0]: row[1] for row in figure.rows}
    assert numbers["Fed-SE, demonstrations 0"] == "25.0 %"
    assert numbers["Fed-SE, demonstrations 3"] == "62.5 %"
    assert numbers["FedIT, demonstrations 16"] == "75.0 %"
    assert "FedIT, demonstrations 0" not in numbers
    assert "Success by demonstrations" in render_page(study)


def test_the_table_leaves_out_what_has_nothing_to_learn_from(folder: Path) -> None:
    text = markdown(suite_table(read_suite(folder)))
    without, few = (text.split(f"## Methods, tiny-{count}-demonstrations")[1] for count in (0, 3))
    assert "| FedIT" not in without.split("## ")[0]
    assert "| FedIT" in few.split("## ")[0]
