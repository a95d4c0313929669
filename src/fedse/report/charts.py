"""The report's figures, from the numbers of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from fedse.progress import Phase
from fedse.report.drawing import Curve, Span, draw_curves, draw_spans, draw_stack, label_room, rate_curve
from fedse.report.figures import PALETTE, Figure, slug
from fedse.report.groups import Group, environments_of
from fedse.report.reading import Run
from fedse.types import SuccessRate

_MIB = 2**20
#: Runs that have a timeline of their own.
MOST_TIMELINES = 12


def all_figures(groups: Sequence[Group]) -> dict[str, list[Figure]]:
    """Part of the report → its figures; no two have one name.  A part without data has none."""
    parts = {
        "success": success_figures(groups),
        "exploration": exploration_figures(groups),
        "loss": loss_figures(groups),
        "experience": store_figures(groups),
        "timeline": timeline_figures(groups),
        "traffic": traffic_figures(groups),
    }
    taken: Counter[str] = Counter()
    for figures in parts.values():
        for at, figure in enumerate(figures):
            taken[figure.name] += 1  # labels that differ in punctuation only make one name
            if taken[figure.name] > 1:
                figures[at] = replace(figure, name=f"{figure.name}--{taken[figure.name]}")
    return parts


def success_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success on held-out tasks over the rounds: a panel for each environment, a line for each group."""
    figures = []
    for environment in environments_of(groups):
        rates = {group.label: group.evaluated(environment) for group in groups}
        singles = {group.label: _single_rates(group, environment) for group in groups}
        curves = [rate_curve(label, found, singles[label]) for label, found in rates.items() if found]
        for page, shown in _pages(curves):
            figures.append(_rates(("success", environment, page), f"{environment}: held-out success", shown, rates))
    return figures


def exploration_figures(groups: Sequence[Group]) -> list[Figure]:
    """Success of the episodes that the sites explored: a panel for each group, a line for each site."""
    figures = []
    for group in groups:
        rates = {site: group.explored(site) for site in group.sites}
        curves = [rate_curve(site, found) for site, found in rates.items() if found]
        for page, shown in _pages(curves):
            figures.append(
                _rates(("exploration", group.label, page), f"{group.label}: exploration success", shown, rates)
            )
    return figures


def loss_figures(groups: Sequence[Group]) -> list[Figure]:
    """Training loss at the end of each round: a panel for each group, a line for each site."""
    figures = []
    for group in groups:
        first = {site: group.mean(Phase.TRAIN, "first_loss", site=site) for site in group.sites}
        last = {site: group.mean(Phase.TRAIN, "last_loss", site=site) for site in group.sites}
        singles = {
            site: [run.series(Phase.TRAIN, "last_loss", site=site) for run in group.runs] if len(group.runs) > 1 else []
            for site in group.sites
        }
        curves = [Curve(site, found, {}, singles[site]) for site, found in last.items() if found]
        for page, shown in _pages(curves):
            rows = [
                [f"{curve.label}, round {round}", f"{first[curve.label][round]:.4g}", f"{value:.4g}"]
                for curve in shown
                for round, value in curve.values.items()
            ]
            figures.append(
                Figure(
                    slug("loss", group.label, page),
                    f"{group.label}: training loss at the end of the round",
                    partial(draw_curves, curves=shown, ylabel="loss (nats per agent token)"),
                    ("site and round", "first quarter of the steps", "last quarter"),
                    rows,
                    label_room(shown),
                )
            )
    return figures


def store_figures(groups: Sequence[Group]) -> list[Figure]:
    """Size and composition of the experience stores: a panel for each site of each group."""
    return [
        figure for group in groups for site in group.sites if (figure := _store_figure(group, site, len(groups) > 1))
    ]


def timeline_figures(groups: Sequence[Group]) -> list[Figure]:
    """How long each site worked on what: a panel for each run, up to :data:`MOST_TIMELINES`."""
    kinds = [Phase.DEMONSTRATE.value, Phase.EXPLORE.value, Phase.TRAIN.value, Phase.EVALUATE.value]
    figures = []
    for label, run in [(group.label_of(run), run) for group in groups for run in group.runs][:MOST_TIMELINES]:
        rows = {client.name: list(_spans(run, client.name)) for client in run.config.clients}
        if any(rows.values()):
            cells = [
                [site, *(f"{sum(span.seconds for span in spans if span.kind == kind):.1f}" for kind in kinds)]
                for site, spans in rows.items()
            ]
            figures.append(
                Figure(
                    slug("timeline", label),
                    f"{label}: working time of the sites",
                    partial(draw_spans, rows=rows, kinds=kinds),
                    ("site", *(f"{kind} (s)" for kind in kinds)),
                    cells,
                    height=1.5 + 0.36 * len(rows),
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


def _rates(
    name: tuple[str, str, str], title: str, curves: Sequence[Curve], rates: Mapping[str, Mapping[int, SuccessRate]]
) -> Figure:
    rows = [
        [
            f"{curve.label}, round {round}",
            f"{100 * rate.rate:.1f} %",
            f"{100 * rate.low:.1f}–{100 * rate.high:.1f} %",
            f"{rate.successes}/{rate.episodes}",
        ]
        for curve in curves
        for round, rate in rates[curve.label].items()
        if rate.episodes
    ]
    return Figure(
        slug(*name),
        title,
        partial(draw_curves, curves=curves, ylabel="success (%)", unit=" %", limit=100),
        ("series and round", "success", "95 % interval", "episodes"),
        rows,
        label_room(curves),
    )


def _pages(curves: Sequence[Curve]) -> Iterator[tuple[str, Sequence[Curve]]]:
    """As many curves as there are colours, and a number for all panels but the first."""
    for start in range(0, len(curves), len(PALETTE)):
        yield str(start // len(PALETTE) + 1) if start else "", curves[start : start + len(PALETTE)]


def _single_rates(group: Group, environment: str) -> list[dict[int, float]]:
    if len(group.runs) == 1:
        return []
    return [
        {
            record.round: 100 * record.evaluation[environment].rate
            for record in run.records
            if environment in record.evaluation
        }
        for run in group.runs
    ]


def _store_figure(group: Group, site: str, is_compared: bool) -> Figure | None:
    shown = group.mean(Phase.DEMONSTRATE, "added", site=site).get(0, 0.0)
    added = group.mean(Phase.EXPLORE, "added", site=site)
    rounds = sorted(set(group.mean(Phase.TRAIN, "examples", site=site)) | set(added) | {0})
    new = {round: added.get(round, 0.0) for round in rounds}
    earlier = {round: sum(value for made_in, value in new.items() if made_in < round) for round in rounds}
    if not shown and not any(new.values()):
        return None
    layers = {"demonstrations": dict.fromkeys(rounds, shown), "explored earlier": earlier, "new": new}
    return Figure(
        slug("experience", group.label, site),
        f"{group.label}, {site}: experience store" if is_compared else f"{site}: experience store",
        partial(draw_stack, layers=layers, ylabel="episodes"),
        ("round", *layers),
        [[str(round), *(f"{values[round]:g}" for values in layers.values())] for round in rounds],
    )


def _spans(run: Run, site: str) -> Iterator[Span]:
    seconds = {phase: run.series(phase, "seconds", site=site) for phase in Phase}
    for round in sorted(set().union(*seconds.values())):
        for phase in Phase:
            if round in seconds[phase]:
                yield Span(phase.value, round, seconds[phase][round])


def _traffic(run: Run, way: str) -> dict[int, float]:
    total: dict[int, float] = {}
    for found in run.measurements:
        if found.metric == way:
            total[found.round] = total.get(found.round, 0.0) + found.value / _MIB
    return total
