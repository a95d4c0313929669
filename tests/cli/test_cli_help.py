from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import typer
from rich.text import Text

from fedse.cli.main import app


def texts(command: click.Command, path: str = "fedse") -> Iterator[tuple[str, str]]:
    """Where a help text stands, and the text; of a command and all below it."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, child in getattr(command, "commands", {}).items():
        yield from texts(child, f"{path} {name}")


@pytest.mark.parametrize(("place", "text"), list(texts(typer.main.get_command(app))))
def test_no_help_text_loses_what_stands_in_brackets(place: str, text: str) -> None:
    # rich takes [words] for markup and drops them; a default in words belongs into show_default.
    assert Text.from_markup(text).plain == text, place


def test_help_says_what_an_argument_is() -> None:
    # Some versions of click drop what typer was told about arguments.
    help_text = dict(texts(typer.main.get_command(app)))["fedse report folders"]
    assert help_text == "The folder of a suite, or run folders."
