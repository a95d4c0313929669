"""What the figures are made of: curves with intervals and labels, stacked bars, bars along time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedse.report.figures import GRID, INK, MARKERS, MUTED, PALETTE, PAPER
from fedse.types import SuccessRate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST_LABEL = 22
_LABEL_GAP = 0.085  # of the axes' height, between labels at the ends of lines


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        label: written at its end.
        values: x → y.
        bands: x → (low, high); empty for a line without intervals.
        single: the same for single runs, drawn thin; x → y each.
    """

    label: str
    values: Mapping[int, float]
    bands: Mapping[int, tuple[float, float]]
    single: Sequence[Mapping[int, float]] = ()


def rate_curve(label: str, rates: Mapping[int, SuccessRate], single: Sequence[Mapping[int, float]] = ()) -> Curve:
    """A curve of success rates in percent, with their intervals."""
    known = {round: rate for round, rate in rates.items() if rate.episodes}
    return Curve(
        label,
        {round: 100 * rate.rate for round, rate in known.items()},
        {round: (100 * rate.low, 100 * rate.high) for round, rate in known.items()},
        single,
    )


def draw_curves(
    axes: Axes, curves: Sequence[Curve], *, ylabel: str, unit: str = "", limit: float | None = None
) -> None:
    """Lines over the rounds, each with its interval, its single runs, and its label and last value at its end.

    Args:
        axes: empty.
        curves: at most as many as there are colours.
        ylabel: what the values are, with their unit.
        unit: written behind the last value.
        limit: the axis reaches from 0 to there; by default to where the values do.
    """
    ends = []
    for at, curve in enumerate(curves):
        if not curve.values:
            continue
        colour = PALETTE[at % len(PALETTE)]
        rounds, values = list(curve.values), list(curve.values.values())
        for single in curve.single:
            axes.plot(list(single), list(single.values()), color=colour, linewidth=0.8, alpha=0.45)
        if curve.bands:
            low, high = zip(*curve.bands.values(), strict=True)
            axes.fill_between(rounds, low, high, color=colour, alpha=0.14, linewidth=0)
            axes.vlines(rounds, low, high, color=colour, linewidth=1, alpha=0.6)
        axes.plot(
            rounds, values, color=colour, linewidth=2, marker=MARKERS[at % len(MARKERS)], markersize=5, clip_on=False
        )
        name = f"{_short(curve.label)} " if len(curves) > 1 else ""
        ends.append((values[-1], f"{name}{_number(values[-1])}{unit}", colour))
    axes.set_ylim(0, limit or max(axes.get_ylim()[1], 1e-9))
    _rounds_below(axes)
    axes.set_ylabel(ylabel)
    axes.grid(axis="y")
    _label_ends(axes, ends)


def label_room(curves: Sequence[Curve]) -> float:
    """Share of a figure's width that labels at the ends of lines need."""
    longest = max((len(_short(curve.label)) for curve in curves), default=0) if len(curves) > 1 else 0
    return 0.1 + 0.017 * longest


def draw_stack(axes: Axes, layers: Mapping[str, Mapping[int, float]], *, ylabel: str) -> None:
    """Stacked bars over the rounds, named above."""
    rounds = sorted(set().union(*layers.values()))
    base = [0.0] * len(rounds)
    for at, (label, values) in enumerate(layers.items()):
        heights = [values.get(round, 0.0) for round in rounds]
        axes.bar(
            rounds, heights, bottom=base, width=0.75, label=label, color=PALETTE[at], edgecolor=PAPER, linewidth=0.6
        )
        base = [below + height for below, height in zip(base, heights, strict=True)]
    axes.set_ylabel(ylabel)
    axes.set_ylim(0, max([*base, 1e-9]) * 1.05)
    axes.grid(axis="y")
    _rounds_below(axes)
    _name_above(axes)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a site's working time.

    Attributes:
        kind: what the site did; decides the colour.
        round: of the federation.
        seconds: how long.
    """

    kind: str
    round: int
    seconds: float


def draw_spans(axes: Axes, rows: Mapping[str, Sequence[Span]], kinds: Sequence[str]) -> None:
    """One bar for each row, its stretches one after the other; each round is numbered where there is room."""
    totals = [math.fsum(span.seconds for span in spans) for spans in rows.values()]
    longest = max([*totals, 1e-9])
    unit, size = ("h", 3600) if longest >= 3 * 3600 else ("min", 60) if longest >= 180 else ("s", 1)
    for at, spans in enumerate(rows.values()):
        start, numbered = 0.0, None
        for span in spans:
            width = span.seconds / size
            colour = PALETTE[kinds.index(span.kind)]
            axes.barh(at, width, left=start, height=0.62, color=colour, edgecolor=PAPER, linewidth=0.7)
            if span.round != numbered and span.seconds > 0.035 * longest:
                axes.text(start + width / 2, at, str(span.round), color=PAPER, ha="center", va="center", fontsize=8.5)
                numbered = span.round
            start += width
    for at, kind in enumerate(kinds):
        axes.bar(0, 0, color=PALETTE[at], label=kind)  # for the names above; draws nothing
    axes.set_yticks(range(len(rows)), [_short(label) for label in rows], color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, longest / size * 1.01)
    axes.set_xlabel(f"working time of the site ({unit}); numbers: rounds")
    axes.grid(axis="x")
    _name_above(axes)


def _rounds_below(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    axes.set_xlabel("round")


def _name_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.98),
        ncols=4,
        frameon=False,
        fontsize=9.5,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.4,
        columnspacing=1.0,
        borderpad=0.2,
    )


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Labels at the right of the lines' ends, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    places = sorted(((value - low) / (high - low), text, colour) for value, text, colour in ends)
    heights: list[float] = []
    for place, _, _ in places:
        heights.append(max(place, heights[-1] + _LABEL_GAP) if heights else place)
    excess = max(0.0, heights[-1] - 1) if heights else 0.0
    for height, (_, text, colour) in zip(heights, places, strict=True):
        axes.text(
            1.02,
            height - excess,
            text,
            color=colour,
            va="center",
            fontsize=10,
            transform=axes.transAxes,
            parse_math=False,
        ).set_in_layout(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(axis="both", color=GRID)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.2g}"
