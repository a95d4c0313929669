"""Where commands write to, and how tables and errors look."""

from __future__ import annotations

import codecs
import io
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from fedse.errors import ConfigError, FedseWarning
from fedse.texts import visible


class _Console(Console):
    """Shows control characters as pictures: what it prints may come from a model, a server or a file of others."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, str):
            renderable = visible(renderable)
        elif isinstance(renderable, Text) and (shown := visible(renderable.plain)) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = shown
        return super().render(renderable, options)


#: Results go to ``stdout``, progress and errors to ``stderr``, so that a pipe gets results only.
stdout = _Console(highlight=False, soft_wrap=True)
stderr = _Console(highlight=False, soft_wrap=True, stderr=True)

_UNLIMITED = 1_000_000
#: Columns of text are not made narrower than this.
_NARROWEST = 12
#: How fedse's own signs are spelled where a terminal lacks them.
_SPELLINGS = str.maketrans(
    dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True))
    | {"–": "-", "−": "-", "─": "-", "━": "-", "·": ".", "×": "x", "→": "->", "▲": "+", "▼": "-", "κ": "kappa"}
    | {"ζ": "zeta", "≥": ">=", "≤": "<=", "±": "+-", "‘": "'", "’": "'", "“": '"', "”": '"', "␛": "^["}
)


def fit_terminal() -> None:
    """Let the standard streams write whatever they are given, in the characters that the terminal has."""
    codecs.register_error("fedse.spelled", _spelled)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "fedse.spelled"), (sys.stderr, "fedse.spelled")):
        if isinstance(stream, io.TextIOWrapper):  # none at all in a process without a terminal
            stream.reconfigure(errors=errors)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: ASCII for what cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(_spelling, lacking)), error.end


def _spelling(character: str) -> str:
    known = unicodedata.normalize("NFKD", character.translate(_SPELLINGS))  # an accent is better lost than the letter
    return known.encode("ascii", "ignore").decode() or "?"


def examples(*commands: str) -> str:
    """The epilog of a command's help."""
    return "\n\n".join(["[bold]Examples[/]", *(escape(command) for command in commands)])


def made_table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str = "", texts: Sequence[str] = ()
) -> Table:
    """A table whose first column is text, and all others are numbers, but those with the headings ``texts``.

    On a narrow terminal texts are broken, and numbers at spaces only: a part of a number is another number.
    Two tables in a row need an empty line in the title.
    """
    table = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    for at, heading in enumerate(headings):
        is_number = at > 0 and heading not in texts
        word = max(map(cell_len, heading.split()), default=0)
        justify: Literal["right", "left"] = "right" if is_number else "left"
        table.add_column(escape(heading), justify=justify, overflow="fold", min_width=min(word, _NARROWEST))
    for row in rows:
        cells = [cell if isinstance(cell, Text) else Text(visible(cell)) for cell in row]
        table.add_row(*cells)
        for column, cell in zip(table.columns, cells, strict=False):  # a row may end early
            widest = max(map(cell_len, cell.plain.split()), default=0)
            needed = widest if column.justify == "right" else min(widest, _NARROWEST)
            column.min_width = max(column.min_width or 0, needed)
    return table


def show_table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str = "", texts: Sequence[str] = ()
) -> None:
    """Print a table as :func:`made_table` makes it."""
    print_table(made_table(headings, rows, title=title, texts=texts))


def print_table(table: Table) -> None:
    """Print a table; in a file or a pipe, which have no width, it is as wide as it needs to be."""
    if stdout.is_terminal:
        stdout.print(table)
        return
    width = stdout.measure(table, options=stdout.options.update(max_width=_UNLIMITED)).maximum
    _Console(file=stdout.file, width=width, highlight=False, soft_wrap=True).print(table)


def say(text: str, style: str | None = None) -> None:
    """Print a result as it is, whatever brackets are in it."""
    stdout.print(text, style=style, markup=False)


def note(text: str, style: str | None = None) -> None:
    """Print what is no result, beside the results, as it is."""
    stderr.print(text, style=style, markup=False)


def log(line: str) -> None:
    """Print a line of a long-lived process beside the results, with the time."""
    note(f"{time.strftime('%H:%M:%S')} {line}")


def refuse_idle(options: Mapping[str, object], needs: str, mend: str = "") -> None:
    """Refuse options (name → value) that have no effect without another one, which is not given.

    Raises:
        ConfigError: naming the first that is given; to mend it, what ``needs`` names after ``without`` is added.
    """
    for option, value in options.items():
        if value is not None and value is not False:
            wanted = needs.partition(" ")[2]
            raise ConfigError(f"{option} has no effect {needs}", mend or f"add {wanted}, or leave it out")


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Inside, warnings that are meant for the user are told as such; all others are shown as Python shows them."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, FedseWarning):
                stderr.print(Text(f"Note: {message}", style="yellow"))
            else:
                plain(message, category, *place, **more)

        warnings.showwarning = show
        yield
