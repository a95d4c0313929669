"""``import fedse``: light, complete, and documented."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import fedse

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
NAMES = fedse.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves(name: str) -> None:
    assert getattr(fedse, name) is not None


def test_the_names_are_listed_for_people() -> None:
    assert set(NAMES) | {"__version__"} <= set(dir(fedse))
    assert fedse.__version__ == version("fedse")
    everything: dict[str, object] = {}
    exec("from fedse import *", everything)
    assert set(NAMES) <= set(everything)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"'fedse' has no attribute 'Stategy'; did you mean Strategy"):
        fedse.Stategy  # noqa: B018
    with pytest.raises(ImportError, match="load_confg"):
        exec("from fedse import load_confg")


def test_the_page_documents_every_name_once() -> None:
    assert sorted(re.findall(r"^::: fedse\.(\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == NAMES
