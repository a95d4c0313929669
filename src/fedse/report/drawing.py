"""Figures over the rounds: curves with bands and labels, stacked bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from fedse.report.figures import GRID, MARKERS, MUTED, PALETTE, PAPER, Figure, slug
from fedse.results.groups import by_round

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Item = TypeVar("_Item")
#: Round → value.
Values = Mapping[int, float]

_LONGEST_LABEL = 22
_MARGIN = 0.7  # of a round, beside the first and the last
_FEWEST_ROUNDS = 3
_LABEL_GAP = 0.085  # of the axes' height, between labels at the ends of lines


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        label: written at its end.
        values: what is drawn.
        colour: index of its colour and marker, the same wherever the series appears.
        bands: round → (low, high); empty for a line without.
        single: the values of single runs, drawn thin.
    """

    label: str
    values: Values
    colour: int
    bands: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    single: Sequence[Values] = ()


def curve_figure(
    name: Sequence[str],
    title: str,
    curves: Sequence[Curve],
    headings: Sequence[str],
    cells: Callable[[Curve, int], Sequence[str]],
    **drawing: Any,
) -> list[Figure]:
    """A panel of curves over the rounds, or what ``xlabel`` names; none without curves, at most as many as colours.

    The first of the ``headings`` is that of curve and round; ``cells`` gives the numbers of a curve in a round, under
    the others.  Further arguments are those of :func:`draw_curves`.
    """
    xlabel = drawing.get("xlabel", "round")
    rows = [[f"{curve.label}, {xlabel} {number}", *cells(curve, number)] for curve in curves for number in curve.values]
    draw = partial(draw_curves, curves=curves, **drawing)
    return [Figure(slug(*name), title, draw, headings, rows, label_room(curves))] if curves else []


def pages(items: Sequence[_Item], size: int = len(PALETTE)) -> Iterator[tuple[str, Sequence[_Item]]]:
    """As many items as there are colours, and a number for all panels but the first."""
    for start in range(0, len(items), size):
        yield str(start // size + 1) if start else "", items[start : start + size]


def ranges(single: Sequence[Values], rounds: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Round → lowest and highest value of the runs that have it."""
    at = by_round(single)
    return {number: (min(at[number]), max(at[number])) for number in rounds}


def stack_figure(
    name: Sequence[str], title: str, layers: Mapping[str, Values], *, ylabel: str, unit: str = "", form: str = "g"
) -> list[Figure]:
    """A panel of stacked bars over the rounds, from the lowest layer up; none where all values are 0.

    Over the numbers, ``unit`` stands behind the name of each layer; their form is as :func:`format` takes it.
    """
    if not any(value for values in layers.values() for value in values.values()):
        return []
    rounds = sorted(set().union(*layers.values()))
    rows = [[str(number), *(format(values.get(number, 0.0), form) for values in layers.values())] for number in rounds]
    draw = partial(draw_stack, layers=layers, ylabel=ylabel)
    return [Figure(slug(*name), title, draw, ("round", *(f"{label}{unit}" for label in layers)), rows)]


def draw_curves(
    axes: Axes,
    curves: Sequence[Curve],
    *,
    ylabel: str,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    xlabel: str = "round",
) -> None:
    """Lines over the rounds, each with its band, its single runs, and its label and last value at its end.

    A series with one value beside longer ones is a level to compare with, drawn as a dotted line across.  ``unit`` is
    written behind the last value; without ``limits`` the axis goes from 0 to where the values reach.
    """
    ends = []
    longest = max((len(curve.values) for curve in curves), default=0)
    for curve in curves:
        if not curve.values:
            continue
        colour = PALETTE[curve.colour % len(PALETTE)]
        rounds, values = list(curve.values), list(curve.values.values())
        for single in curve.single:
            axes.plot(list(single), list(single.values()), color=colour, linewidth=0.8, alpha=0.45)
        if curve.bands:
            low, high = zip(*curve.bands.values(), strict=True)
            axes.fill_between(rounds, low, high, color=colour, alpha=0.14, linewidth=0)
            axes.vlines(rounds, low, high, color=colour, linewidth=1, alpha=0.6)
        if len(rounds) == 1 and longest > 1:
            axes.axhline(values[0], color=colour, linewidth=1.2, linestyle=":")
        marker = MARKERS[curve.colour % len(MARKERS)]
        axes.plot(rounds, values, color=colour, linewidth=2, marker=marker, markersize=5, clip_on=False)
        name = f"{short(curve.label)} " if len(curves) > 1 else ""
        ends.append((values[-1], f"{name}{_number(values[-1])}{unit}", colour))
    axes.set_ylim(limits or (0, max(axes.get_ylim()[1], 1e-9)))
    _rounds_below(axes, [round for curve in curves for round in curve.values])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel, parse_math=False)
    axes.grid(axis="y")
    _label_ends(axes, ends)


def label_room(curves: Sequence[Curve]) -> float:
    """Share of a figure's width that labels at the ends of lines need."""
    longest = max((len(short(curve.label)) for curve in curves), default=0) if len(curves) > 1 else 0
    return 0.12 + 0.017 * longest


def draw_stack(axes: Axes, layers: Mapping[str, Values], *, ylabel: str) -> None:
    """Stacked bars over the rounds, named above."""
    rounds = sorted(set().union(*layers.values()))
    base = [0.0] * len(rounds)
    for at, (label, values) in enumerate(layers.items()):
        heights = [values.get(round, 0.0) for round in rounds]
        look: dict[str, Any] = {"width": 0.75, "color": PALETTE[at], "edgecolor": PAPER, "linewidth": 0.6}
        axes.bar(rounds, heights, bottom=base, label=label, **look)
        base = [below + height for below, height in zip(base, heights, strict=True)]
    axes.set_ylabel(ylabel, parse_math=False)
    axes.set_ylim(0, max([*base, 1e-9]) * 1.05)
    axes.grid(axis="y")
    _rounds_below(axes, rounds)
    name_above(axes)


def spread(heights: Sequence[float], gap: float = _LABEL_GAP) -> list[float]:
    """Heights of labels moved apart so that none covers the next, each block of them about where it belongs.

    Given rising heights in shares of the axes' height, these are the least squares fit to them with at least ``gap``
    between two (pooled adjacent violators), moved into [0, 1] as a whole.
    """
    blocks: list[list[float]] = []  # of heights less the room that the labels below take
    for at, height in enumerate(heights):
        blocks.append([height - at * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    places = [fmean(block) for block in blocks for _ in block]
    moved = [place + at * gap for at, place in enumerate(places)]
    shift = max(0.0, moved[-1] - 1) if moved else 0.0
    return [height - min(shift, max(0.0, moved[0])) for height in moved]


def _rounds_below(axes: Axes, rounds: Sequence[int]) -> None:
    """The axis of the rounds: none that is not there, but room for a few, or one would have a bar across the figure."""
    from matplotlib.ticker import MaxNLocator

    if rounds:
        first, last = min(rounds), max(rounds)
        room = max(0, _FEWEST_ROUNDS - (last - first)) / 2 + _MARGIN
        axes.set_xlim(first - room, last + room)
        ticks = MaxNLocator(nbins=9, integer=True, min_n_ticks=1).tick_values(first, last)
        axes.set_xticks([tick for tick in ticks if first <= tick <= last])
    axes.set_xlabel("round")


def name_above(axes: Axes) -> None:
    """The names of the colours in a row above the axes."""
    sizes = {"handlelength": 0.9, "handleheight": 0.9, "handletextpad": 0.4, "columnspacing": 1.0, "borderpad": 0.2}
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=4, frameon=False, fontsize=9.5, **sizes)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Labels at the right of the lines' ends, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    places = sorted(((value - low) / (high - low), text, colour) for value, text, colour in ends)
    for height, (_, text, colour) in zip(spread([place for place, _, _ in places]), places, strict=True):
        axes.text(
            1.02, height, text, color=colour, va="center", fontsize=10, transform=axes.transAxes, parse_math=False
        ).set_in_layout(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(axis="both", color=GRID)


def short(label: str) -> str:
    """A label that is not too long to stand in a figure."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _number(value: float) -> str:
    if abs(value) >= 10 or value == 0:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) >= 0.01 else f"{value:.1g}"
