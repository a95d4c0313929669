"""The pages about environments say what the code does."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from fedse.environments import environment_names, make

PAGES = Path(__file__).parents[2] / "docs" / "environments"


@pytest.mark.parametrize("name", ["babyai", "maze", "textcraft", "webshop", "wordle"])
def test_a_shown_transcript_is_what_its_code_prints(name: str) -> None:
    code, shown = re.search(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", (PAGES / f"{name}.md").read_text(), re.DOTALL
    ).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert shown == printed.getvalue()


@pytest.mark.parametrize("name", ["babyai", "maze", "textcraft", "webshop", "wordle"])
def test_splits_and_options_are_all_described(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    spec = make(name).spec
    for option in spec.options:
        assert f"\n| `{option}` |" in page
    for split, tasks in spec.splits.items():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{split}`" in line.split("|")[1])
        position = row.split("|")[1].replace("`", "").replace(" ", "").split(",").index(split)
        counts = re.findall(r"\d+(?:,\d{3})*", row.split("|")[2])
        assert counts[position] == f"{tasks:,}"


def test_the_overview_lists_what_ships_and_its_code_runs() -> None:
    page = (PAGES / "index.md").read_text()
    for name in {"babyai", "maze", "textcraft", "webshop", "wordle"} & set(environment_names()):
        spec = make(name).spec
        row = next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]"))
        assert f"| {spec.max_turns} | {spec.splits['train']:,} train, {spec.splits['test']:,} test |" in row
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {"print": lambda *_: None})
