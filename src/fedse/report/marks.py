"""Figures that set methods side by side: bars of differences, points, and a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedse.evaluation.bootstrap import Estimate
from fedse.report.drawing import short, spread
from fedse.report.figures import INK, MARKERS, MUTED, PALETTE
from fedse.results.formatting import true_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BETTER, _WORSE, _OPEN = PALETTE[2], PALETTE[1], PALETTE[5]
_CLOSE = 0.3  # of the axes' width: labels of points nearer than this may cover each other
_STRONGEST = 0.55  # opacity of 100 %; ink stays readable on it, on light and on dark paper


def draw_differences(axes: Axes, differences: Mapping[str, Estimate], *, xlabel: str) -> None:
    """A horizontal bar from zero for each difference (in points), with its interval and its value.

    Bars whose interval excludes zero are green above and orange below; the others are grey.
    """
    low = min([0.0, *(gain.low for gain in differences.values())])
    high = max([0.0, *(gain.high for gain in differences.values())])
    room = max(high - low, 1.0)
    for at, gain in enumerate(differences.values()):
        colour = _BETTER if gain.low > 0 else _WORSE if gain.high < 0 else _OPEN
        axes.barh(at, gain.value, height=0.55, color=colour, alpha=0.85, linewidth=0)
        axes.hlines(at, gain.low, gain.high, color=INK, linewidth=1.4)
        axes.vlines([gain.low, gain.high], at - 0.14, at + 0.14, color=INK, linewidth=1.4)
        axes.text(high + 0.04 * room, at, true_minus(f"{gain.value:+.1f}"), va="center", fontsize=9.5, color=INK)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(differences)), [short(label) for label in differences], color=INK, parse_math=False)
    axes.set_ylim(len(differences) - 0.45, -0.55)
    axes.set_xlim(low - 0.03 * room, high + 0.24 * room)
    axes.set_xlabel(xlabel, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


@dataclass(frozen=True, slots=True)
class Point:
    """A method in the plane: its label, where it lies, the interval of ``y``, and the index of colour and marker."""

    label: str
    x: float
    y: float
    low: float
    high: float
    colour: int


def draw_points(axes: Axes, points: Sequence[Point], *, xlabel: str, ylabel: str) -> None:
    """Points with intervals and labels; the x axis is logarithmic, the y axis goes from 0 to 100."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for point in points:
        colour, marker = PALETTE[point.colour % len(PALETTE)], MARKERS[point.colour % len(MARKERS)]
        axes.vlines(point.x, point.low, point.high, color=colour, linewidth=1.4)
        axes.plot([point.x], [point.y], color=colour, marker=marker, markersize=6)
    axes.set_xscale("log")
    smallest, largest = min(point.x for point in points), max(point.x for point in points)
    axes.set_xlim(smallest / 1.6, largest * 5)  # labels stand to the right of their points
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 100)
    axes.set_xlabel(xlabel, parse_math=False)
    axes.set_ylabel(ylabel, parse_math=False)
    axes.grid()
    for cluster in _clusters(axes, points):
        heights = spread([point.y / 100 for point in cluster])
        for height, point in zip(heights, cluster, strict=True):
            place, colour = (point.x, 100 * height), PALETTE[point.colour % len(PALETTE)]
            look: dict[str, Any] = {"va": "center", "fontsize": 9, "color": colour, "parse_math": False}
            axes.annotate(short(point.label), place, xytext=(6, 0), textcoords="offset points", **look)


def draw_heat(axes: Axes, rows: Mapping[str, Mapping[str, float]], *, xlabel: str, ylabel: str) -> None:
    """A matrix of rates, in percent; the stronger the colour, the higher.  Cells that were not measured stay empty."""
    from matplotlib.patches import Rectangle

    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for y, row in enumerate(rows.values()):
        for x, column in enumerate(columns):
            if column in row:
                opacity, corner = 0.04 + (_STRONGEST - 0.04) * row[column], (x - 0.48, y - 0.46)
                axes.add_patch(Rectangle(corner, 0.96, 0.92, color=PALETTE[0], alpha=opacity, linewidth=0))
                axes.text(x, y, f"{100 * row[column]:.0f}", ha="center", va="center", color=INK, fontsize=10)
    look: dict[str, Any] = {"color": INK, "parse_math": False}
    axes.set_xticks(range(len(columns)), [short(label) for label in columns], rotation=28, ha="right", **look)
    axes.set_yticks(range(len(rows)), [short(label) for label in rows], **look)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(xlabel, parse_math=False)
    axes.set_ylabel(ylabel, parse_math=False)
    axes.tick_params(length=0, colors=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _clusters(axes: Axes, points: Sequence[Point]) -> list[list[Point]]:
    """Points whose labels may meet, lowest first."""
    in_axes = axes.transData + axes.transAxes.inverted()
    clusters: list[list[Point]] = []
    starts = -math.inf
    for point in sorted(points, key=lambda point: (point.x, point.y)):
        place = in_axes.transform((point.x, 0))[0]
        if place - starts > _CLOSE:
            clusters.append([])
            starts = place
        clusters[-1].append(point)
    return [sorted(cluster, key=lambda point: point.y) for cluster in clusters]
