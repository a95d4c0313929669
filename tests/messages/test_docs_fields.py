"""The page on federation tells what can leave a site."""

from __future__ import annotations

from pathlib import Path

from fedse.messages import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "federation.md"


def test_the_documentation_lists_every_field_of_a_report() -> None:
    table = "\n".join(f"| `{name}` | {what} |" for name, what in FIELDS.items())
    head = "| field | what it tells |\n|---|---|\n"
    assert f"{head}{table}\n\n" in PAGE.read_text(encoding="utf-8"), f"put this table into {PAGE.name}:\n{head}{table}"
