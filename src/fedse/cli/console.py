"""Where commands write to, and how numbers and errors look."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from fedse.errors import VersionWarning

if TYPE_CHECKING:
    from rich.table import Table

    from fedse.types import SuccessRate

#: Results go to ``stdout``, progress and errors to ``stderr``, so that a pipe gets results only.
stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(highlight=False, soft_wrap=True, stderr=True)

_BARS = "▁▂▃▄▅▆▇█"
_UNLIMITED = 1_000_000


def examples(*commands: str) -> str:
    """The epilog of a command's help."""
    return "\n\n".join(["[bold]Examples[/]", *(escape(command) for command in commands)])


def print_table(table: Table) -> None:
    """Print a table; in a file or a pipe, which have no width, it is as wide as it needs to be."""
    if stdout.is_terminal:
        stdout.print(table)
        return
    width = stdout.measure(table, options=stdout.options.update(max_width=_UNLIMITED)).maximum
    Console(file=stdout.file, width=width, highlight=False, soft_wrap=True).print(table)


def show_error(what: str, mend: str) -> None:
    """Print an error with what can be done about it."""
    stderr.print(Text.assemble(("Error: ", "bold red"), (what, "red")))
    if mend:
        stderr.print(Text(f"  → {mend}"))


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Inside, warnings that are meant for the user are told as such; all others are shown as Python shows them."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, VersionWarning):
                stderr.print(Text(f"Note: {message}", style="yellow"))
            else:
                plain(message, category, *place, **more)

        warnings.showwarning = show
        yield


def percent(rate: float) -> str:
    """A rate in [0, 1] as a whole percentage."""
    return "–" if math.isnan(rate) else f"{100 * rate:.0f} %"


def rate_with_interval(rate: SuccessRate) -> str:
    """A success rate with its 95 % interval, as in ``75 % [63–84]``."""
    if not rate.episodes:
        return "–"
    return f"{percent(rate.rate)} [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


def duration(seconds: float) -> str:
    """A time span: ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count: float) -> str:
    """A number of bytes in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def sparkline(rates: Sequence[float]) -> str:
    """Rates in [0, 1] as one bar each; a dot where there is none (NaN)."""
    return "".join("·" if math.isnan(rate) else _BARS[min(len(_BARS) - 1, int(rate * len(_BARS)))] for rate in rates)
