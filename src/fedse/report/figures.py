"""Figures: drawn once, shown on the page in its colours, or written as SVG and PNG files.

A figure is drawn in the colours of a light page.  On the page each of these colours becomes a CSS variable, so that one
drawing serves light and dark.  The colours are Okabe and Ito's, which colour-blind readers can tell apart
(https://jfly.uni-koeln.de/color/), darkened where they would be faint on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedse.report.markup import Html, element, table
from fedse.storage import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colour of the light page → CSS variable.
INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#fefefe"
PALETTE = ("#0072b2", "#c75000", "#00805e", "#a8508a", "#9a6a00", "#56606a")
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}
_VARIABLES |= {colour: f"series-{number}" for number, colour in enumerate(PALETTE)}
MARKERS = ("o", "s", "^", "D", "v", "P")

_WIDTH = 4.6  # inches; at this width text keeps its size on a phone
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "fedse",  # the same data give the same file
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@dataclass(frozen=True)
class Figure:
    """One panel.

    Attributes:
        name: of its files, and unique on the page.
        title: what it shows, of what.
        draw: draws into empty axes.
        headings, rows: the numbers behind it, as text.
        right: share of the width that is kept free for labels at the ends of lines.
        height: inches.
    """

    name: str
    title: str
    draw: Callable[[Axes], None]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: float = 0.04
    height: float = 2.7


def inline(figure: Figure) -> Html:
    """A figure for the page: inline SVG with its title, and the numbers behind it to unfold."""
    svg = Html(_page_svg(_saved(figure, "svg").decode(), figure))
    numbers = table(figure.headings, figure.rows, caption=figure.title)
    unfolded = element("details", element("summary", "Numbers"), numbers)
    return element("figure", element("figcaption", figure.title), svg, unfolded, class_="chart")


def write_figures(
    figures: Sequence[Figure], folder: Path, *, kinds: Sequence[Literal["svg", "png"]] = ("svg", "png")
) -> list[Path]:
    """Write each figure into a file with a title, on light ground, so that it can be read wherever it is put.

    The figures' names are those of the files; PNG has 200 dots an inch.

    Raises:
        StorageError: if a file cannot be written.
    """
    files = {folder / f"{figure.name}.{kind}": (figure, kind) for figure in figures for kind in kinds}
    for path, (figure, kind) in files.items():
        atomic_write(path, _saved(figure, kind, title=figure.title))
    return list(files)


def slug(*parts: str) -> str:
    """A file name without surprises; a plus is part of a method's name."""
    plain = (re.sub(r"[^a-z0-9]+", "-", part.lower().replace("+", " plus")).strip("-")[:60] for part in parts)
    return "-".join(filter(None, plain))


def _saved(figure: Figure, kind: str, *, title: str = "") -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing
    from matplotlib.layout_engine import TightLayoutEngine

    with rc_context(_STYLE):
        drawing = Drawing(figsize=(_WIDTH, figure.height))
        axes = drawing.add_subplot()
        figure.draw(axes)
        if title:
            drawing.text(0.012, 0.985, title, ha="left", va="top", fontsize=10.5, fontweight="bold", parse_math=False)
        # Room for the axis labels, whose width depends on the numbers, and for the labels at the lines' ends.
        rect = (0, 0, 1 - figure.right, 0.88 if title else 0.97)
        TightLayoutEngine(pad=0.4, rect=rect).execute(drawing)
        buffer = io.BytesIO()
        options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 200}
        drawing.savefig(buffer, format=kind, transparent=not title, **options)
    return buffer.getvalue()


def _page_svg(svg: str, figure: Figure) -> str:
    """Only the element itself, in the page's colours and size, with ids that are unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{figure.name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    label = element("title", figure.title)
    svg = re.sub(r' (?:width|height)="[0-9.]+pt"', "", svg, count=2)
    return re.sub(r"<svg([^>]*)>", lambda match: f'<svg role="img"{match[1]}>{label}', svg, count=1)
