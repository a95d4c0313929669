"""When each site did what, from the markers that it writes at the end of each phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise, zip_longest
from typing import TYPE_CHECKING

from fedse.progress import Phase
from fedse.report.drawing import name_above, short
from fedse.report.figures import INK, MUTED, PALETTE, PAPER, Figure, slug
from fedse.results.groups import Group
from fedse.results.reading import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Runs that have a timeline of their own.
MOST_TIMELINES = 12
#: The phases of a site, in the order of their colours.
KINDS = (Phase.DEMONSTRATE, Phase.EXPLORE, Phase.TRAIN, Phase.EVALUATE)
_TOLERANCE = 2.0  # seconds by which clocks and file systems may disagree about the order of two phases
_SHORTEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of a site in a round; times are in seconds since the run's first phase began."""

    kind: Phase
    round: int
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """When it was complete."""
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
    """The phases of a run's sites by the clock, where it is known when they ended.

    Where it is not, or where the phases of a site would overlap, as in a folder that was copied without the times of
    its files, they are put in a row.
    """
    sites: dict[str, list[Span]] = {site: [] for site in run.sites}
    for done in sorted(run.phases, key=lambda done: (done.round, KINDS.index(done.phase))):
        sites[done.site].append(Span(done.phase, done.round, (done.ended or 0.0) - done.seconds, done.seconds))
    sites = {site: spans for site, spans in sites.items() if spans}
    pairs = (pair for spans in sites.values() for pair in pairwise(spans))
    overlap = any(after.start < before.end - _TOLERANCE for before, after in pairs)
    if overlap or any(done.ended is None for done in run.phases):
        starts = {site: accumulate((span.seconds for span in row), initial=0.0) for site, row in sites.items()}
        in_a_row = {site: list(map(_moved, row, starts[site])) for site, row in sites.items()}
        return Timeline(in_a_row, by_clock=False)
    first = min((span.start for spans in sites.values() for span in spans), default=0.0)
    return _without_pauses({site: [_moved(span, span.start - first) for span in row] for site, row in sites.items()})


def timeline_runs(groups: Sequence[Group]) -> list[tuple[str, Run]]:
    """Runs with their labels, the first of each group before any second one; each once."""
    labelled = ([(group.label_of(run), run) for run in group.runs] for group in groups)
    ordered = [entry for column in zip_longest(*labelled) for entry in column if entry]
    return list({run.folder: (label, run) for label, run in reversed(ordered)}.values())[::-1]


def timeline_figures(groups: Sequence[Group]) -> list[Figure]:
    """When each site did what: a panel for each run, up to :data:`MOST_TIMELINES`."""
    timelines = [(label, timeline(run)) for label, run in timeline_runs(groups)[:MOST_TIMELINES]]
    return [_figure(label, found) for label, found in timelines if found.seconds]


def _figure(label: str, found: Timeline) -> Figure:
    cells = []
    for site, spans in found.sites.items():
        worked = (math.fsum(span.seconds for span in spans if span.kind is kind) for kind in KINDS)
        done = f"{max((span.end for span in spans), default=0.0):.1f}" if found.by_clock else "unknown"
        cells.append([site, *(f"{seconds:.1f}" for seconds in worked), done])
    title = f"{label}: {'who did what when' if found.by_clock else 'working time'}"
    draw, height = partial(draw_timeline, shown=found), 1.5 + 0.36 * len(found.sites)
    headings = ("site", *(f"{kind.value} (s)" for kind in KINDS), "done after (s)")
    return Figure(slug("timeline", label), title, draw, headings, cells, height=height)


def draw_timeline(axes: Axes, shown: Timeline) -> None:
    """One row for each site; each round is numbered where there is room, and a pause is a dotted line."""
    longest = max(shown.seconds, 1e-9)
    unit, size = ("h", 3600) if longest >= 3 * 3600 else ("min", 60) if longest >= 180 else ("s", 1)
    for at, spans in enumerate(shown.sites.values()):
        numbered = None
        for span in spans:
            width = span.seconds / size
            colour = PALETTE[KINDS.index(span.kind)]
            axes.barh(at, width, left=span.start / size, height=0.62, color=colour, edgecolor=PAPER, linewidth=0.5)
            if span.round != numbered and span.seconds > 0.035 * longest:
                middle = span.start / size + width / 2
                axes.text(middle, at, str(span.round), color=PAPER, ha="center", va="center", fontsize=8.5)
                numbered = span.round
    for start, seconds in shown.pauses:
        axes.axvline(start / size, color=MUTED, linestyle=":", linewidth=1.2)
        text = "pause " + (f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min")
        axes.text(start / size, len(shown.sites) - 0.4, text, color=MUTED, fontsize=8.5, ha="center", va="center")
    for at, kind in enumerate(KINDS):
        axes.bar(0, 0, color=PALETTE[at], label=kind.value)  # for the names above; draws nothing
    axes.set_yticks(range(len(shown.sites)), [short(label) for label in shown.sites], color=INK, parse_math=False)
    axes.set_ylim(len(shown.sites) - (0.1 if shown.pauses else 0.4), -0.6)
    axes.set_xlim(0, longest / size * 1.01)
    what = "time since the run began" if shown.by_clock else "working time of the site"
    axes.set_xlabel(f"{what} ({unit}); numbers: rounds")
    axes.grid(axis="x")
    name_above(axes)


def _moved(span: Span, start: float) -> Span:
    return replace(span, start=start)


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

    def without(moment: float) -> float:
        return moment - sum(seconds for start, seconds in gaps if start < moment)

    rows = {site: [_moved(span, without(span.start)) for span in row] for site, row in sites.items()}
    return Timeline(rows, True, [(without(start), seconds) for start, seconds in gaps])
