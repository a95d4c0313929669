"""The table of model families in the docs is what ``scripts/model_families.py`` finds."""

from __future__ import annotations

from pathlib import Path

import model_families
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
#: One that is taken, one that has its own signatures, and some that are refused for different reasons.
FEW = ("llama", "granite", "gemma2", "lfm2", "gpt2", "bloom")


@pytest.mark.parametrize("kind", FEW)
def test_a_familys_row_is_what_is_found(kind: str) -> None:
    [family] = [family for family in model_families.FAMILIES if family.kind == kind]
    assert model_families.row(family) in PAGE


@pytest.mark.long
@pytest.mark.parametrize("family", model_families.FAMILIES, ids=lambda family: family.kind)
def test_every_row_is_what_is_found(family: model_families.Family) -> None:
    assert model_families.row(family) in PAGE


def test_the_page_has_all_families_and_no_others() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in rows] == [family.kind for family in model_families.FAMILIES]
