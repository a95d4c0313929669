"""Figures of what the methods reach: success over the rounds, differences, bytes, transfer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fedse.evaluation import macro_average
from fedse.evaluation.bootstrap import Estimate
from fedse.report.drawing import Curve, draw_curves, label_room
from fedse.report.figures import PALETTE, Figure, signed, slug
from fedse.report.marks import Point, draw_differences, draw_heat, draw_points
from fedse.results.groups import Group, environments_of
from fedse.results.reading import Run
from fedse.results.standings import Standing
from fedse.types import RoundRecord, SuccessRate

_MIB = 2**20
MEAN = "mean of environments"

_Key = TypeVar("_Key")


def success_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success on held-out tasks over the rounds: a panel for each environment and their mean, a line for each group."""
    environments = environments_of(groups)
    figures = []
    for page, members in pages(groups):
        if len(environments) > 1:
            figures += _mean_panel(members, page)
        for environment in environments:
            rates = {group.label: _known(group.evaluated(environment)) for group in members}
            curves = [_curve(group, environment, rates[group.label]) for group in members if rates[group.label]]
            if curves:
                rows = [
                    [f"{label}, round {round}", _percent(rate.rate), _bounds(rate), f"{rate.successes}/{rate.episodes}"]
                    for label, found in rates.items()
                    for round, rate in found.items()
                ]
                headings = ("series and round", "success", "95 % interval", "episodes")
                figures.append(_rates(("success", environment, page), environment, curves, headings, rows))
    return figures


def ablation_figures(ablations: Sequence[Group], references: Mapping[str, Group]) -> list[Figure]:
    """The mean of the environments over the rounds: a few ablations to a panel, each panel with its reference."""
    figures = []
    for page, members in pages(ablations, len(PALETTE) - 1):
        reference = references.get(members[0].model)
        shown = ([reference] if reference else []) + list(members)
        coloured = [replace(group, colour=at) for at, group in enumerate(shown)]
        figures += _mean_panel(coloured, f"ablation {page}", f"ablations, {MEAN}")
    return figures


def difference_figures(standings: Sequence[Standing], part: str) -> list[Figure]:
    """Differences to each reference, mean of environments, with paired intervals."""
    figures = []
    references = {found.reference.label: found.reference for found in standings if found.reference}
    for label in references:
        gains = {
            found.group.label: _in_points(gain)
            for found in standings
            if found.reference and found.reference.label == label and (gain := found.gain)
        }
        if gains:
            rows = [
                [name, signed(gain.value), f"{signed(gain.low)} to {signed(gain.high)}"] for name, gain in gains.items()
            ]
            figures.append(
                Figure(
                    slug(part, label),
                    f"{MEAN}: difference to {label}",
                    partial(draw_differences, differences=gains, xlabel=f"points against {label}, 95 % interval"),
                    ("method", "points", "95 % interval"),
                    rows,
                    height=1.0 + 0.33 * len(gains),
                )
            )
    return figures


def bytes_figures(standings: Sequence[Standing]) -> list[Figure]:
    """Success of the last round against the size of an update, where methods differ in rank or codec."""
    points, rows = [], []
    for found in {standing.group.runs[0].layout.root: standing for standing in reversed(standings)}.values():
        size = found.group.adapter_bytes() / _MIB
        if found.macro and not math.isnan(size):
            macro, rank = _in_points(found.macro), found.group.runs[0].config.lora.rank
            points.append(Point(found.group.label, size, macro.value, macro.low, macro.high, found.group.colour))
            rows.append([found.group.label, str(rank), f"{size:.3f}", f"{macro.value:.1f} %", _interval(macro)])
    if len({point.x for point in points}) < 2:
        return []
    draw = partial(draw_points, points=points, xlabel="MiB a site sends in a round", ylabel="success (%)")
    headings = ("method", "rank", "MiB a round", "success", "95 % interval")
    title = f"{MEAN}: success against traffic"
    return [Figure("bytes", title, draw, headings, rows, height=3.4)]


def transfer_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success of each isolated site's adapter on every site's held-out tasks, pooled over seeds."""
    figures = []
    for group in groups:
        counts: dict[str, dict[str, list[SuccessRate]]] = {}
        for run in group.counted:
            for site, rates in _last_transfer(run).items():
                for environment, rate in _known(rates).items():
                    counts.setdefault(site, {}).setdefault(environment, []).append(rate)
        rows = {
            site: {environment: 100 * _pooled_rate(found) for environment, found in row.items()}
            for site, row in counts.items()
        }
        if rows:
            columns = list(dict.fromkeys(environment for row in rows.values() for environment in row))
            draw = partial(draw_heat, rows=rows, xlabel="played in", ylabel="adapter of")
            cells = [
                [site, *(f"{row[name]:.0f} %" if name in row else "–" for name in columns)]
                for site, row in rows.items()
            ]
            title = f"{group.label}: each adapter everywhere (%)"
            height = 1.3 + 0.38 * len(rows)
            figures.append(
                Figure(slug("transfer", group.label), title, draw, ("adapter of", *columns), cells, height=height)
            )
    return figures


def pages(groups: Sequence[Group], size: int = len(PALETTE)) -> Iterator[tuple[str, Sequence[Group]]]:
    """At most so many groups, of one model, and a number for all panels but the first."""
    number = 0
    for model in dict.fromkeys(group.model for group in groups):
        members = [group for group in groups if group.model == model]
        for start in range(0, len(members), size):
            number += 1
            yield str(number) if number > 1 else "", members[start : start + size]


def _mean_panel(groups: Sequence[Group], page: str, what: str = MEAN) -> list[Figure]:
    curves, rows = [], []
    for group in groups:
        single = [_means(run.records) for run in group.measured]
        rounds = sorted(set.intersection(*map(set, single))) if single else []
        values = {round: math.fsum(_at(single, round)) / len(single) for round in rounds}
        bands = {round: (min(_at(single, round)), max(_at(single, round))) for round in rounds}
        if values:
            curves.append(Curve(group.label, values, group.colour, bands if len(single) > 1 else {}))
            rows += [
                [f"{group.label}, round {round}", f"{value:.1f} %", f"{bands[round][0]:.1f}–{bands[round][1]:.1f} %"]
                for round, value in values.items()
            ]
    if not curves:
        return []
    headings = ("series and round", "success", "lowest and highest seed")
    return [_rates(("success", "mean", page), what, curves, headings, rows)]


def _at(series: Sequence[Mapping[int, float]], round: int) -> list[float]:
    return [values[round] for values in series if round in values]


def _means(records: Sequence[RoundRecord]) -> dict[int, float]:
    """Round → mean of the environments in percent, where all were evaluated and have an outcome."""
    names = set().union(*(record.evaluation for record in records))
    found = {
        record.round: 100 * macro_average(record.evaluation) for record in records if record.evaluation.keys() == names
    }
    return {round: value for round, value in found.items() if not math.isnan(value)}


def _curve(group: Group, environment: str, rates: Mapping[int, SuccessRate]) -> Curve:
    """Pooled success in percent; the band spans the seeds, or is Wilson's interval where there is one run."""
    values = {round: 100 * rate.rate for round, rate in rates.items()}
    single = [
        {
            record.round: 100 * record.evaluation[environment].rate
            for record in run.records
            if environment in record.evaluation and record.evaluation[environment].episodes
        }
        for run in group.measured
    ]
    if len(single) > 1:
        bands = {round: (min(_at(single, round)), max(_at(single, round))) for round in values}
    else:
        bands = {round: (100 * rate.low, 100 * rate.high) for round, rate in rates.items()}
    return Curve(group.label, values, group.colour, bands)


def _rates(
    name: tuple[str, str, str],
    what: str,
    curves: Sequence[Curve],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Figure:
    draw = partial(draw_curves, curves=curves, ylabel="success (%)", unit=" %", limits=(0, 100))
    return Figure(slug(*name), f"{what}: held-out success", draw, headings, rows, label_room(curves))


def _last_transfer(run: Run) -> Mapping[str, Mapping[str, SuccessRate]]:
    return run.records[-1].transfer if run.records else {}


def _pooled_rate(rates: Sequence[SuccessRate]) -> float:
    return sum(rate.successes for rate in rates) / sum(rate.episodes for rate in rates)


def _known(rates: Mapping[_Key, SuccessRate]) -> dict[_Key, SuccessRate]:
    return {key: rate for key, rate in rates.items() if rate.episodes}


def _in_points(found: Estimate) -> Estimate:
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _bounds(rate: SuccessRate) -> str:
    return f"{100 * rate.low:.1f}–{100 * rate.high:.1f} %"


def _interval(found: Estimate) -> str:
    return f"{found.low:.1f}–{found.high:.1f} %"
