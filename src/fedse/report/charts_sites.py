"""Figures of what went on at the sites and between them: learning, time, traffic, conflict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from fedse.progress import Phase
from fedse.report.charts_results import pages
from fedse.report.conflicts import MEASURES, group_conflicts
from fedse.report.drawing import Curve, draw_curves, draw_stack, label_room
from fedse.report.figures import PALETTE, Figure, slug
from fedse.report.timeline import KINDS, Timeline, draw_timeline, timeline
from fedse.results.groups import Group, explored_in
from fedse.results.reading import Run
from fedse.types import SuccessRate

_MIB = 2**20
#: Runs that have a timeline of their own.
MOST_TIMELINES = 12
_AXES = {"cosine_A": "mean cosine of pairs", "cosine_B": "mean cosine of pairs", "dilution": "κ", "error": "error (%)"}


def exploration_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success of the episodes that the sites explored: a panel for each group, a line for each site.

    One run has bands, the intervals of its rates; of several seeds each is a thin line.
    """
    figures = []
    for group in groups:
        rates = {site: _known(group.explored(site)) for site in group.sites}
        seeds = group.counted if len(group.counted) > 1 else ()
        curves = [
            Curve(
                site,
                _in_percent(found),
                at,
                {} if seeds else {round: (100 * rate.low, 100 * rate.high) for round, rate in found.items()},
                [_in_percent(_known(explored_in(run, site))) for run in seeds],
            )
            for at, (site, found) in enumerate(rates.items())
            if found
        ]
        for page, shown in _pages(curves):
            rows = [
                [f"{curve.label}, round {round}", *_rate_cells(rate)]
                for curve in shown
                for round, rate in rates[curve.label].items()
            ]
            figures.append(
                Figure(
                    slug("exploration", group.label, page),
                    f"{group.label}: exploration success",
                    partial(draw_curves, curves=shown, ylabel="success (%)", unit=" %", limits=(0, 100)),
                    ("site and round", "success", "95 % interval", "episodes"),
                    rows,
                    label_room(shown),
                )
            )
    return figures


def loss_figures(groups: Sequence[Group]) -> list[Figure]:
    """Training loss at the end of each round: a panel for each group, a line for each site.

    Where experience is pooled there is one line, for all sites together.
    """
    figures = []
    for group in groups:
        labels = {site: site for site in group.sites} | {"": "all sites"}
        first, last = (
            {label: group.mean(Phase.TRAIN, metric, site=site) for site, label in labels.items()}
            for metric in ("first_loss", "last_loss")
        )
        singles = {
            label: [run.series(Phase.TRAIN, "last_loss", site=site) for run in group.counted]
            if len(group.counted) > 1
            else []
            for site, label in labels.items()
        }
        curves = [
            Curve(label, found, at, single=singles[label]) for at, (label, found) in enumerate(last.items()) if found
        ]
        for page, shown in _pages(curves):
            rows = [
                [f"{curve.label}, round {round}", f"{first[curve.label][round]:.4g}", f"{value:.4g}"]
                for curve in shown
                for round, value in curve.values.items()
            ]
            figures.append(
                Figure(
                    slug("loss", group.label, page),
                    f"{group.label}: training loss",
                    partial(draw_curves, curves=shown, ylabel="loss (nats per agent token)"),
                    ("site and round", "first quarter of the steps", "last quarter"),
                    rows,
                    label_room(shown),
                )
            )
    return figures


def store_figures(groups: Sequence[Group]) -> list[Figure]:
    """Size and composition of the experience stores: a panel for each site, or for each of several groups."""
    if len(groups) == 1:
        found = [_store_figure(groups[0], [site], f"{site}: experience store") for site in groups[0].sites]
    else:
        found = [_store_figure(group, group.sites, f"{group.label}: experience of all sites") for group in groups]
    return [figure for figure in found if figure]


def timeline_runs(groups: Sequence[Group]) -> list[tuple[str, Run]]:
    """Runs with their labels, the first of each group before any second one; each once."""
    longest = max((len(group.runs) for group in groups), default=0)
    ordered = [
        (group.label_of(group.runs[at]), group.runs[at])
        for at in range(longest)
        for group in groups
        if at < len(group.runs)
    ]
    return list({run.layout.root: (label, run) for label, run in reversed(ordered)}.values())[::-1]


def timeline_figures(groups: Sequence[Group]) -> list[Figure]:
    """When each site did what: a panel for each run, up to :data:`MOST_TIMELINES`."""
    found = [(label, timeline(run)) for label, run in timeline_runs(groups)[:MOST_TIMELINES]]
    return [_timeline_figure(label, spans) for label, spans in found if spans.seconds]


def conflict_figures(groups: Sequence[Group]) -> list[Figure]:
    """Conflict of the sites' updates over the rounds: a panel for each measure, a line for each group.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    found = {group.label: group_conflicts(group) for group in groups}
    figures = []
    for page, members in pages([group for group in groups if any(found[group.label])]):
        for measure, what in MEASURES.items():
            curves = [_conflict_curve(group, found[group.label], measure) for group in members]
            lowest = min((value for curve in curves for value in curve.values.values()), default=0.0)
            limits = None if measure == "error" else (min(0.0, lowest - 0.05), 1.0)
            rows = [
                [f"{curve.label}, round {round}", f"{value:.3g}"]
                for curve in curves
                for round, value in curve.values.items()
            ]
            draw = partial(draw_curves, curves=curves, ylabel=_AXES[measure], limits=limits)
            figures.append(
                Figure(
                    slug("conflict", measure, page),
                    what,
                    draw,
                    ("series and round", _AXES[measure]),
                    rows,
                    label_room(curves),
                )
            )
    return figures


def traffic_figures(groups: Sequence[Group]) -> list[Figure]:
    """Bytes that the adapters take on their way, per round over all sites: a panel for each group."""
    figures = []
    for group in groups:
        run = group.runs[0]  # sizes do not depend on the seed
        layers = {
            "sites → server": _traffic(run, "bytes_up"),
            "server → sites": _traffic(run, "bytes_down"),
        }
        if any(layers.values()):
            rounds = sorted(set().union(*layers.values()))
            figures.append(
                Figure(
                    slug("traffic", group.label),
                    f"{group.label}: adapters on their way",
                    partial(draw_stack, layers=layers, ylabel="MiB per round"),
                    ("round", *(f"{way} (MiB)" for way in layers)),
                    [
                        [str(round), *(f"{values.get(round, 0.0):.3f}" for values in layers.values())]
                        for round in rounds
                    ],
                )
            )
    return figures


def _store_figure(group: Group, sites: Sequence[str], title: str) -> Figure | None:
    """Demonstrations, episodes kept earlier and new ones by round, of the sites together."""
    shown = math.fsum(group.mean(Phase.DEMONSTRATE, "added", site=site).get(0, 0.0) for site in sites)
    added = [group.mean(Phase.EXPLORE, "added", site=site) for site in sites]
    trained = [group.mean(Phase.TRAIN, "examples", site=site) for site in sites]
    rounds = sorted({0}.union(*trained, *added))
    new = {round: math.fsum(found.get(round, 0.0) for found in added) for round in rounds}
    earlier = {round: sum(value for made_in, value in new.items() if made_in < round) for round in rounds}
    if not shown and not any(new.values()):
        return None
    layers = {"demonstrations": dict.fromkeys(rounds, shown), "explored earlier": earlier, "new": new}
    return Figure(
        slug("experience", group.label, "" if len(sites) > 1 else sites[0]),
        title,
        partial(draw_stack, layers=layers, ylabel="episodes"),
        ("round", *layers),
        [[str(round), *(f"{values[round]:g}" for values in layers.values())] for round in rounds],
    )


def _timeline_figure(label: str, found: Timeline) -> Figure:
    cells = [
        [
            site,
            *(f"{math.fsum(span.seconds for span in spans if span.kind is kind):.1f}" for kind in KINDS),
            f"{max((span.end for span in spans), default=0.0):.1f}" if found.by_clock else "unknown",
        ]
        for site, spans in found.sites.items()
    ]
    return Figure(
        slug("timeline", label),
        f"{label}: who did what when" if found.by_clock else f"{label}: working time",
        partial(draw_timeline, found=found),
        ("site", *(f"{kind.value} (s)" for kind in KINDS), "done after (s)"),
        cells,
        height=1.5 + 0.36 * len(found.sites),
    )


def _conflict_curve(group: Group, found: Sequence[Mapping[int, Mapping[str, float]]], measure: str) -> Curve:
    """The mean over the runs that have the measure; the band spans them."""
    rounds = sorted({round for run in found for round, values in run.items() if measure in values})
    values = {round: [run[round][measure] for run in found if measure in run.get(round, {})] for round in rounds}
    means = {round: math.fsum(entries) / len(entries) for round, entries in values.items()}
    bands = {round: (min(entries), max(entries)) for round, entries in values.items()} if len(found) > 1 else {}
    return Curve(group.label, means, group.colour, bands)


def _pages(curves: Sequence[Curve]) -> Iterator[tuple[str, Sequence[Curve]]]:
    """As many curves as there are colours, and a number for all panels but the first."""
    for start in range(0, len(curves), len(PALETTE)):
        yield str(start // len(PALETTE) + 1) if start else "", curves[start : start + len(PALETTE)]


def _known(rates: Mapping[int, SuccessRate]) -> dict[int, SuccessRate]:
    return {round: rate for round, rate in rates.items() if rate.episodes}


def _in_percent(rates: Mapping[int, SuccessRate]) -> dict[int, float]:
    return {round: 100 * rate.rate for round, rate in rates.items()}


def _rate_cells(rate: SuccessRate) -> list[str]:
    bounds = f"{100 * rate.low:.1f}–{100 * rate.high:.1f} %"
    return [f"{100 * rate.rate:.1f} %", bounds, f"{rate.successes}/{rate.episodes}"]


def _traffic(run: Run, way: str) -> dict[int, float]:
    total: dict[int, float] = {}
    for found in run.measurements:
        if found.metric == way:
            total[found.round] = total.get(found.round, 0.0) + found.value / _MIB
    return total
