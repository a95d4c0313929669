"""Figures of how the sites learn: exploration, training loss, experience."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedse.progress import Phase
from fedse.report.charts_success import in_percent, intervals, known, rate_figure
from fedse.report.drawing import Curve, curve_figure, pages, stack_figure
from fedse.report.figures import Figure
from fedse.results.groups import Group, explored_in


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
