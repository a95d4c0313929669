"""Figures of what the methods reach: success over the rounds, and differences to the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fedse.evaluation import macro_average
from fedse.evaluation.bootstrap import Estimate
from fedse.evaluation.rates import MEANS
from fedse.report.drawing import Curve, curve_figure, pages, ranges
from fedse.report.figures import PALETTE, Figure, slug
from fedse.report.marks import draw_differences
from fedse.results.formatting import bounds, percent, true_minus
from fedse.results.groups import Course, Group, by_round, environments_of, evaluated_in
from fedse.results.standings import Standing
from fedse.types import RoundRecord

MEAN = MEANS[0][0]
_SUCCESS: dict[str, Any] = {"ylabel": "success (%)", "unit": " %", "limits": (0, 100)}


def success_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success on held-out tasks over the rounds: a panel for each environment and their mean, a line for each group."""
    environments = environments_of(groups)
    figures = []
    for page, members in pages_of_models(groups):
        if len(environments) > 1:
            figures += _mean_panel(members, page)
        for environment in environments:
            courses = {group.label: known(group.evaluated(environment)) for group in members}
            curves = [_curve(group, environment, courses[group.label]) for group in members if courses[group.label]]
            figures += rate_figure(
                ("success", environment, page), f"{environment}: held-out success", curves, courses, "series and round"
            )
    return figures


def ablation_figures(ablations: Sequence[Group], references: Mapping[str, Group]) -> list[Figure]:
    """The mean of the environments over the rounds: a few ablations to a panel, each panel with its reference."""
    figures = []
    for page, members in pages_of_models(ablations, len(PALETTE) - 1):
        reference = references.get(members[0].model)
        shown = ([reference] if reference else []) + list(members)
        coloured = [replace(group, colour=at) for at, group in enumerate(shown)]
        figures += _mean_panel(coloured, f"ablation {page}", f"ablations, {MEAN}")
    return figures


def difference_figures(standings: Sequence[Standing], part: str) -> list[Figure]:
    """Differences to each reference, mean of environments, with paired intervals."""
    figures = []
    for label in dict.fromkeys(standing.reference.label for standing in standings if standing.reference):
        against = [standing for standing in standings if standing.reference and standing.reference.label == label]
        gains = {standing.group.label: gain.times(100) for standing in against if (gain := standing.gain)}
        if gains:
            rows = [
                [name, true_minus(f"{gain.value:+.1f}"), true_minus(f"{gain.low:+.1f} to {gain.high:+.1f}")]
                for name, gain in gains.items()
            ]
            title, headings = f"{MEAN}: difference to {label}", ("method", "points", "95 % interval")
            draw = partial(draw_differences, differences=gains, xlabel=f"points against {label}, 95 % interval")
            figures.append(Figure(slug(part, label), title, draw, headings, rows, height=1.0 + 0.33 * len(gains)))
    return figures


def demonstration_figures(standings: Sequence[Standing]) -> list[Figure]:
    """The mean of the environments after the last round, over the demonstrations of a site, where these differ."""
    curves: dict[str, Curve] = {}
    rates: dict[tuple[str, int], Estimate] = {}
    for standing in standings:
        mean, group = standing.means.macro, standing.group
        if mean is None:
            continue
        label = group.label.removesuffix(f" · {group.model}")
        count = max(client.demonstrations for client in group.runs[0].config.clients)
        rates[label, count] = mean.times(100)
        curves.setdefault(label, Curve(label, {}, group.colour, {}))
    for label, curve in curves.items():
        own = {count: rate for (name, count), rate in sorted(rates.items()) if name == label}
        values, bands = (
            {n: rate.value for n, rate in own.items()},
            {n: (rate.low, rate.high) for n, rate in own.items()},
        )
        curves[label] = replace(curve, values=values, bands=bands)
    shown = [curve for curve in curves.values() if len(curve.values) > 1][: len(PALETTE)]

    def cells(curve: Curve, number: int) -> list[str]:
        rate = rates[curve.label, number]
        return [f"{rate.value:.1f} %", f"{rate.low:.1f}–{rate.high:.1f} %"]

    headings = ("series and demonstrations", "success", "95 % interval")
    name, title = ("success", "demonstrations"), f"{MEAN}: by demonstrations a site"
    return curve_figure(name, title, shown, headings, cells, xlabel="demonstrations", **_SUCCESS)


def pages_of_models(groups: Sequence[Group], size: int = len(PALETTE)) -> list[tuple[str, Sequence[Group]]]:
    """At most so many groups, of one model, and a number for all panels but the first."""
    models = dict.fromkeys(group.model for group in groups)
    of_models = ([group for group in groups if group.model == model] for model in models)
    chunks = [chunk for members in of_models for _, chunk in pages(members, size)]
    return [(str(number) if number > 1 else "", chunk) for number, chunk in enumerate(chunks, start=1)]


def rate_figure(
    name: Sequence[str], title: str, curves: Sequence[Curve], courses: Mapping[str, Course], heading: str
) -> list[Figure]:
    """Curves in percent, with the interval and the episodes of each rate (label → course) in the numbers.

    ``heading`` is that of the numbers' first column; see :func:`~fedse.report.drawing.curve_figure`.
    """

    def cells(curve: Curve, number: int) -> list[str]:
        rate = courses[curve.label][number]
        return [percent(rate.rate, 1), f"{bounds(rate, 1)} %", f"{rate.successes}/{rate.episodes}"]

    headings = (heading, "success", "95 % interval", "episodes")
    return curve_figure(name, title, curves, headings, cells, **_SUCCESS)


def known(course: Course) -> Course:
    """The rounds with episodes that had an outcome."""
    return {number: rate for number, rate in course.items() if rate.episodes}


def in_percent(course: Course) -> dict[int, float]:
    """Round → rate in percent, where it is known."""
    return {number: 100 * rate.rate for number, rate in known(course).items()}


def intervals(course: Course) -> dict[int, tuple[float, float]]:
    """Round → bounds of the rate's interval, in percent."""
    return {number: (100 * rate.low, 100 * rate.high) for number, rate in course.items()}


def mean_curve(group: Group, single: Sequence[Mapping[int, float]], rounds: Sequence[int]) -> Curve:
    """The mean over the runs that have the round; the band spans them, if there are several."""
    at = by_round(single)
    means = {number: math.fsum(at[number]) / len(at[number]) for number in rounds}
    return Curve(group.label, means, group.colour, ranges(single, rounds) if len(single) > 1 else {})


def _mean_panel(groups: Sequence[Group], page: str, what: str = MEAN) -> list[Figure]:
    curves, bands = [], {}
    for group in groups:
        single = [_means(run.records) for run in group.measured]
        rounds = sorted(set.intersection(*map(set, single))) if single else []
        bands[group.label] = ranges(single, rounds)
        if rounds:
            curves.append(mean_curve(group, single, rounds))

    def cells(curve: Curve, number: int) -> list[str]:
        low, high = bands[curve.label][number]
        return [f"{curve.values[number]:.1f} %", f"{low:.1f}–{high:.1f} %"]

    headings = ("series and round", "success", "lowest and highest seed")
    return curve_figure(("success", "mean", page), f"{what}: held-out success", curves, headings, cells, **_SUCCESS)


def _means(records: Sequence[RoundRecord]) -> dict[int, float]:
    """Round → mean of the environments in percent, where all were evaluated and have an outcome."""
    names = set().union(*(record.evaluation for record in records))
    whole = (record for record in records if record.evaluation.keys() == names)
    means = {record.round: 100 * macro_average(record.evaluation) for record in whole}
    return {number: mean for number, mean in means.items() if not math.isnan(mean)}


def _curve(group: Group, environment: str, course: Course) -> Curve:
    """Pooled success in percent; the band spans the seeds, or is Wilson's interval where there is one run."""
    single = [in_percent(evaluated_in(run, environment)) for run in group.measured]
    bands = ranges(single, course) if len(single) > 1 else intervals(course)
    return Curve(group.label, in_percent(course), group.colour, bands)
