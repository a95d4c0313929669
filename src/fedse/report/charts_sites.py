"""Figures of the sites: how they learn, and what they exchange."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from fedse.evaluation import pooled
from fedse.progress import Phase
from fedse.report.charts_success import MEAN, in_percent, intervals, known, mean_curve, pages_of_models, rate_figure
from fedse.report.drawing import Curve, curve_figure, pages, stack_figure
from fedse.report.figures import Figure, slug
from fedse.report.marks import Point, draw_heat, draw_points
from fedse.results.exchange import DOWN, UP, round_conflicts
from fedse.results.formatting import percent
from fedse.results.groups import Group, explored_in
from fedse.results.reading import Run
from fedse.results.standings import Standing
from fedse.runs.rounds import owner_label
from fedse.types import SuccessRate

_MIB = 2**20
_ALIKE = 1.05
#: Measure of conflict → what it is, and what its axis says; each is a panel.
_MEASURES = {
    "cosine_A": ("cosine of the updates' A factors", "mean cosine of pairs"),
    "cosine_B": ("cosine of the updates' B factors", "mean cosine of pairs"),
    "dilution": ("κ: what averaging leaves of the updates", "κ"),
    "error": ("aggregation error, of the change (%)", "error (%)"),
}


def bytes_figures(standings: Sequence[Standing]) -> list[Figure]:
    """Success of the last round against the size of an update, where methods differ in rank or codec."""
    points, rows = [], []
    for standing in {found.group.runs[0].folder: found for found in reversed(standings)}.values():
        group, size = standing.group, standing.group.bytes_sent() / _MIB
        if standing.means.macro and not math.isnan(size):
            mean, rank = standing.means.macro.times(100), group.runs[0].config.lora.rank
            points.append(Point(group.label, size, mean.value, mean.low, mean.high, group.colour))
            bounds = f"{mean.low:.1f}–{mean.high:.1f} %"
            rows.append([group.label, str(rank), f"{size:.3f}", f"{mean.value:.1f} %", bounds])
    sizes = [point.x for point in points]
    if not sizes or max(sizes) < _ALIKE * min(sizes):  # the numbers beside an adapter make no method dear
        return []
    draw = partial(draw_points, points=points, xlabel="MiB a site sends in a round", ylabel="success (%)")
    headings = ("method", "rank", "MiB a round", "success", "95 % interval")
    return [Figure("bytes", f"{MEAN}: success against traffic", draw, headings, rows, height=3.4)]


def transfer_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success of each isolated site's adapter on every site's held-out tasks, pooled over seeds."""
    figures = []
    for group in groups:
        single: dict[str, dict[str, list[SuccessRate]]] = {}
        for run in group.counted:
            for site, rates in run.records[-1].transfer.items() if run.records else ():
                for environment, rate in rates.items():
                    if rate.episodes:
                        single.setdefault(site, {}).setdefault(environment, []).append(rate)
        rows = {
            owner_label(site): {name: pooled(rates).rate for name, rates in row.items()} for site, row in single.items()
        }
        if rows:
            columns = list(dict.fromkeys(environment for row in rows.values() for environment in row))
            cells = [[site, *(percent(row.get(name, math.nan)) for name in columns)] for site, row in rows.items()]
            name, title = slug("transfer", group.label), f"{group.label}: each adapter everywhere (%)"
            draw = partial(draw_heat, rows=rows, xlabel="played in", ylabel="adapter of")
            headings, height = ("adapter of", *columns), 1.3 + 0.38 * len(rows)
            figures.append(Figure(name, title, draw, headings, cells, height=height))
    return figures


def conflict_figures(groups: Sequence[Group]) -> list[Figure]:
    """Conflict of the sites' updates over the rounds: a panel for each measure, a line for each group.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    conflicts = {group.label: [round_conflicts(run) for run in group.counted] for group in groups}
    figures = []
    for page, members in pages_of_models([group for group in groups if any(conflicts[group.label])]):
        for measure, (title, axis) in _MEASURES.items():
            curves = []
            for group in members:
                runs = conflicts[group.label]
                single = [{at: values[measure] for at, values in run.items() if measure in values} for run in runs]
                curves.append(mean_curve(group, single, sorted(set().union(*single))))
            lowest = min((value for curve in curves for value in curve.values.values()), default=0.0)
            drawing = {"ylabel": axis, "limits": None if measure == "error" else (min(0.0, lowest - 0.05), 1.0)}
            name, headings = ("conflict", measure, page), ("series and round", axis)
            figures += curve_figure(
                name, title, curves, headings, lambda curve, number: [f"{curve.values[number]:.3g}"], **drawing
            )
    return figures


def traffic_figures(groups: Sequence[Group]) -> list[Figure]:
    """Bytes of the messages with adapters, per round over all sites: a panel for each group."""
    figures = []
    for group in groups:
        run = group.runs[0]  # sizes do not depend on the seed
        layers = {"sites → server": _traffic(run, UP), "server → sites": _traffic(run, DOWN)}
        name, title = ("traffic", group.label), f"{group.label}: adapters on their way"
        figures += stack_figure(name, title, layers, ylabel="MiB per round", unit=" (MiB)", form=".3f")
    return figures


def _traffic(run: Run, way: str) -> dict[int, float]:
    total: dict[int, float] = {}
    for value in run.measurements:
        if value.metric == way:
            total[value.round] = total.get(value.round, 0.0) + value.value / _MIB
    return total


def exploration_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success of the episodes that the sites explored: a panel for each group, a line for each site.

    One run has bands, the intervals of its rates; of several seeds each is a thin line.
    """
    figures = []
    for group in groups:
        courses = {site: known(group.explored(site)) for site in group.sites}
        seeds = group.counted if len(group.counted) > 1 else ()
        curves = []
        for at, (site, course) in enumerate(courses.items()):
            single = [in_percent(explored_in(run, site)) for run in seeds]
            if course:
                curves.append(Curve(site, in_percent(course), at, {} if seeds else intervals(course), single))
        for page, shown in pages(curves):
            name = ("exploration", group.label, page)
            figures += rate_figure(name, f"{group.label}: exploration success", shown, courses, "site and round")
    return figures


def loss_figures(groups: Sequence[Group]) -> list[Figure]:
    """Training loss at the end of each round: a panel for each group, a line for each site."""
    figures = []
    for group in groups:
        seeds = group.counted if len(group.counted) > 1 else ()
        first, last = (
            {site: group.mean(Phase.TRAIN, metric, site=site) for site in group.sites}
            for metric in ("first_loss", "last_loss")
        )
        curves = [
            Curve(site, last[site], at, single=[run.series(Phase.TRAIN, "last_loss", site=site) for run in seeds])
            for at, site in enumerate(group.sites)
            if last[site]
        ]

        def cells(curve: Curve, number: int, first: dict[str, dict[int, float]] = first) -> list[str]:
            return [f"{first[curve.label][number]:.4g}", f"{curve.values[number]:.4g}"]

        title, ylabel = f"{group.label}: training loss", "loss (nats per agent token)"
        headings = ("site and round", "first quarter of the steps", "last quarter")
        for page, shown in pages(curves):
            figures += curve_figure(("loss", group.label, page), title, shown, headings, cells, ylabel=ylabel)
    return figures


def store_figures(groups: Sequence[Group]) -> list[Figure]:
    """Size and composition of the experience stores: a panel for each site, or for each of several groups."""
    panels = [(group, group.sites, f"{group.label}: experience of all sites") for group in groups]
    if len(groups) == 1:
        panels = [(groups[0], (site,), f"{site}: experience store") for site in groups[0].sites]
    return [figure for panel in panels for figure in _store_figure(*panel)]


def _store_figure(group: Group, sites: Sequence[str], title: str) -> list[Figure]:
    """Demonstrations, episodes kept earlier and new ones by round, of the sites together."""
    shown = math.fsum(group.mean(Phase.DEMONSTRATE, "added", site=site).get(0, 0.0) for site in sites)
    added = [group.mean(Phase.EXPLORE, "added", site=site) for site in sites]
    trained = [group.mean(Phase.TRAIN, "examples", site=site) for site in sites]
    rounds = sorted({0}.union(*trained, *added))
    new = {number: math.fsum(of_site.get(number, 0.0) for of_site in added) for number in rounds}
    earlier = {number: sum(value for made_in, value in new.items() if made_in < number) for number in rounds}
    layers = {"demonstrations": dict.fromkeys(rounds, shown), "explored earlier": earlier, "new": new}
    name = ("experience", group.label, "" if len(sites) > 1 else sites[0])
    return stack_figure(name, title, layers, ylabel="episodes")
