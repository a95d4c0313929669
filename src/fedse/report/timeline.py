"""When each site did what, from the markers that it writes at the end of each phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from fedse.progress import Phase
from fedse.report.drawing import name_above, short
from fedse.report.figures import INK, MUTED, PALETTE, PAPER
from fedse.results.reading import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The phases of a site, in the order of their colours.
KINDS = (Phase.DEMONSTRATE, Phase.EXPLORE, Phase.TRAIN, Phase.EVALUATE)
_TOLERANCE = 2.0  # seconds by which clocks and file systems may disagree about the order of two phases
_SHORTEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of a site.

    Attributes:
        kind: what the site did.
        round: of the federation.
        start: seconds since the run's first phase began.
        seconds: how long it took.
    """

    kind: Phase
    round: int
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """Seconds since the run's first phase began."""
        return self.start + self.seconds


@dataclass(frozen=True)
class Timeline:
    """The phases of all sites of a run.

    Attributes:
        sites: site → its phases, in order.
        by_clock: phases lie where the clock has them; else each site's follow each other without its waiting.
        pauses: (start, seconds) of stretches in which no site worked, that are cut out of ``sites``.
    """

    sites: Mapping[str, Sequence[Span]]
    by_clock: bool
    pauses: Sequence[tuple[float, float]] = ()

    @property
    def seconds(self) -> float:
        """From the first phase's beginning to the last one's end, without the pauses."""
        return max((span.end for spans in self.sites.values() for span in spans), default=0.0)


def timeline(run: Run) -> Timeline:
    """The phases of a run's sites by the clock, where the times of their markers can be true.

    A marker is written when its phase ends, so its modification time and the phase's seconds say when it began.  In a
    folder that was copied without its files' times the phases of a site would overlap; they are then put in a row.
    """
    names = {client.name: client.name for client in run.config.clients} | {"": "all sites"}
    sites = {
        label: sorted(
            (
                Span(found.phase, found.round, found.ended - found.seconds, found.seconds)
                for found in run.phases_of(site)
            ),
            key=lambda span: (span.round, KINDS.index(span.kind)),
        )
        for site, label in names.items()
        if site or run.phases_of(site)
    }
    if any(_overlap(spans) for spans in sites.values()):
        return Timeline({site: _in_a_row(spans) for site, spans in sites.items()}, by_clock=False)
    first = min((span.start for spans in sites.values() for span in spans), default=0.0)
    moved = {site: [replace(span, start=span.start - first) for span in spans] for site, spans in sites.items()}
    return _without_pauses(moved)


def draw_timeline(axes: Axes, found: Timeline) -> None:
    """One row for each site; each round is numbered where there is room, and a pause is a dotted line."""
    longest = max(found.seconds, 1e-9)
    unit, size = ("h", 3600) if longest >= 3 * 3600 else ("min", 60) if longest >= 180 else ("s", 1)
    for at, spans in enumerate(found.sites.values()):
        numbered = None
        for span in spans:
            width = span.seconds / size
            colour = PALETTE[KINDS.index(span.kind)]
            axes.barh(at, width, left=span.start / size, height=0.62, color=colour, edgecolor=PAPER, linewidth=0.5)
            if span.round != numbered and span.seconds > 0.035 * longest:
                middle = span.start / size + width / 2
                axes.text(middle, at, str(span.round), color=PAPER, ha="center", va="center", fontsize=8.5)
                numbered = span.round
    for start, seconds in found.pauses:
        axes.axvline(start / size, color=MUTED, linestyle=":", linewidth=1.2)
        text = f"pause {_duration(seconds)}"
        axes.text(start / size, len(found.sites) - 0.4, text, color=MUTED, fontsize=8.5, ha="center", va="center")
    for at, kind in enumerate(KINDS):
        axes.bar(0, 0, color=PALETTE[at], label=kind.value)  # for the names above; draws nothing
    axes.set_yticks(range(len(found.sites)), [short(label) for label in found.sites], color=INK, parse_math=False)
    axes.set_ylim(len(found.sites) - (0.1 if found.pauses else 0.4), -0.6)
    axes.set_xlim(0, longest / size * 1.01)
    what = "time since the run began" if found.by_clock else "working time of the site"
    axes.set_xlabel(f"{what} ({unit}); numbers: rounds")
    axes.grid(axis="x")
    name_above(axes)


def _overlap(spans: Sequence[Span]) -> bool:
    return any(after.start < before.end - _TOLERANCE for before, after in pairwise(spans))


def _in_a_row(spans: Sequence[Span]) -> list[Span]:
    row: list[Span] = []
    for span in spans:
        row.append(replace(span, start=row[-1].end if row else 0.0))
    return row


def _without_pauses(sites: Mapping[str, Sequence[Span]]) -> Timeline:
    """Cut out stretches in which no site worked, if they are long beside the work, as between two evenings."""
    spans = sorted((span for row in sites.values() for span in row), key=lambda span: span.start)
    shortest = max(_SHORTEST_PAUSE, 0.05 * math.fsum(span.seconds for span in spans) / max(1, len(sites)))
    gaps: list[tuple[float, float]] = []
    busy_until = 0.0
    for span in spans:
        if span.start - busy_until > shortest:
            gaps.append((busy_until, span.start - busy_until))
        busy_until = max(busy_until, span.end)

    def moved(span: Span) -> Span:
        return replace(span, start=span.start - sum(seconds for start, seconds in gaps if start < span.start))

    pauses = [
        (start - sum(seconds for earlier, seconds in gaps if earlier < start), seconds) for start, seconds in gaps
    ]
    return Timeline({site: [moved(span) for span in row] for site, row in sites.items()}, True, pauses)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
