"""How numbers look wherever people read them: rates, intervals, points, seconds, bytes; and tables as text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedse.evaluation.bootstrap import Estimate
    from fedse.types import SuccessRate

#: Stands where there is no value.
NONE = "–"
_BARS = "▁▂▃▄▅▆▇█"


def percent(rate: float, digits: int = 0) -> str:
    """A rate in [0, 1] as a percentage; a dash for NaN."""
    return NONE if math.isnan(rate) else f"{100 * rate:.{digits}f} %"


def bounds(interval: SuccessRate | Estimate, digits: int = 0, between: str = "–") -> str:
    """The bounds of an interval of rates, in percent without a sign, as in ``63–84``."""
    return f"{100 * interval.low:.{digits}f}{between}{100 * interval.high:.{digits}f}"


def rate_with_interval(rate: SuccessRate | None, between: str = "–") -> str:
    """A success rate with its 95 % interval, as in ``75 % [63–84]``; a dash without episodes."""
    return f"{percent(rate.rate)} [{bounds(rate, between=between)}]" if rate and rate.episodes else NONE


def points(difference: Estimate) -> str:
    """A difference of rates in percentage points with its interval, as in ``+1.2 [-0.3, +2.7]``."""
    value, low, high = (100 * bound for bound in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def excludes_zero(difference: Estimate) -> bool:
    """The interval of a difference does not hold zero."""
    return not difference.low <= 0 <= difference.high


def true_minus(text: str) -> str:
    """Numbers with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


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


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int) -> str:
    """A Markdown table; columns from ``numbers_from`` on are aligned to the right."""
    rules = ["---:" if at >= numbers_from else "---" for at, _ in enumerate(headings)]
    lines = ([text.replace("|", "\\|").replace("\n", " ") for text in line] for line in (headings, rules, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object] | Mapping[str, object]]) -> str:
    """Rows as CSV (RFC 4180) with a heading; rows that are mappings may lack columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] if isinstance(row, Mapping) else row for row in rows)
    return text.getvalue()
