"""The parts of the page that are words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from fedse.evaluation import macro_average
from fedse.evaluation.bootstrap import Estimate
from fedse.report.figures import signed
from fedse.report.markup import Html, element, table
from fedse.report.study import Study
from fedse.results.groups import Group, environments_of
from fedse.results.reading import Run
from fedse.results.standings import Standing
from fedse.runs.folder import is_at_work
from fedse.suites import SuiteLayout
from fedse.types import SuccessRate

NONE = "–"
_LEVEL = 0.05
_BEFORE_AND_AFTER = (
    "Success on held-out tasks, with Wilson's 95 % intervals; that of pooled runs reaches from the lowest bound to the "
    "highest"
)


def notices(study: Study) -> Html:
    """What the reader has to know first: runs that are not complete, or do not count, and what went wrong."""
    groups = study.groups
    runs = list({run.layout.root: (group.label_of(run), run) for group in groups for run in group.runs}.values())
    if study.suite is not None:
        open_ = list(_suite_progress(study))
    else:
        open_ = [_run_progress(label, run) for label, run in runs if not run.is_complete]
    twice = [
        f"{group.label} has several runs of one seed; the first that is complete counts, because repeating a seed adds "
        f"no evidence."
        for group in groups
        if len({run.config.seed for run in group.runs}) < len(group.runs)
    ]
    lost = [
        f"{label}, {environment}: {rate.errors} held-out episodes of round {record.round} were lost to faults and are "
        f"in no rate."
        for label, run in runs
        for record in run.records
        for environment, rate in record.evaluation.items()
        if rate.errors
    ]
    refused = [
        f"{label}, round {record.round}: the update of {site} was not used ({done['outcome']})."
        for label, run in runs
        for record in run.records
        for site, done in record.clients.items()
        if done.get("outcome", "ok") != "ok"
    ]
    return Html.join(element("p", text, class_="notice") for text in [*open_, *twice, *lost, *refused])


def headline(group: Group) -> Html:
    """The results of one method as cards: success after the last round, and what it was before the first."""
    rates = _evaluated(group)
    cards = [_card(name, found[min(found)], found[max(found)], len(found) > 1) for name, found in rates.items()]
    finals = group.final()
    if len(finals) > 1 and not math.isnan(mean := macro_average(finals)):
        small = f"of {len(finals)} environments"
        cards.insert(0, _card_of("mean", f"{100 * mean:.0f} %", small, class_="card mean"))
    shown = element("div", *cards, class_="cards")
    if len(group.measured) == len(group.runs):
        return shown
    return Html.join([shown, element("p", f"Of {_runs_of(group)}.", class_="note")])


def methods_table(study: Study, standings: Sequence[Standing], caption: str) -> Html:
    """A row for each method: the mean of environments with its interval, the difference to the reference, each rate."""
    environments = environments_of([found.group for found in standings])
    head = ["method", "mean of environments [95 %]", "difference [95 %]", *environments, "all episodes", "seeds"]
    rows = [
        [
            _name_cell(found, study),
            _mean_cell(found),
            _gain_cell(found),
            *(_rate_cell(found, environment) for environment in environments),
            NONE if math.isnan(found.weighted) else f"{100 * found.weighted:.0f} %",
            _seeds(found),
        ]
        for found in standings
    ]
    obstacles = [
        element("p", f"{found.group.label} is not compared: {found.obstacle}.", class_="notice")
        for found in standings
        if found.obstacle
    ]
    return Html.join([table(head, rows, caption=caption), *obstacles])


def before_and_after(groups: Sequence[Group]) -> Html:
    """Success before the first round and after the last one evaluated, for each group and, with seeds, each run."""
    rows = [row for environment in environments_of(groups) for row in _result_rows(groups, environment)]
    rows += [row for group in groups if (row := _mean_row(group, len(groups) > 1))]
    headings = ("environment", "before", "after", "change", "episodes", "rounds")
    return table(headings, rows, caption=_BEFORE_AND_AFTER)


def moment(seconds: float) -> Html:
    """A point in time; the page's script adds how long ago that is."""
    when = datetime.fromtimestamp(seconds, UTC)
    return element("time", f"{when:%Y-%m-%d %H:%M:%S} UTC", datetime=when.isoformat())


def _run_progress(label: str, run: Run) -> Html:
    done = f"{label} is not complete: {max(0, len(run.records) - 1)} of {run.config.rounds} rounds done. "
    if run.is_at_work:
        state = "A process works on it. "
    else:
        state = f"No process works on it: it has stopped. It goes on with fedse run --resume --out {run.layout.root}. "
    sign = run.last_sign
    if sign is None:
        return Html.join([element("span", done + state)])
    last = f"Last sign of life: {sign.phase.value} at {sign.site}, round {sign.round}, ended "
    return Html.join([element("span", done + state + last), moment(sign.ended), Html(".")])


def _suite_progress(study: Study) -> Iterator[str]:
    runs = study.runs
    if study.is_complete or study.suite is None:
        return
    done, at_work = sum(run.is_complete for run in runs), sum(run.is_at_work for run in runs)
    rest = [run for run in runs if not run.is_complete]
    text = (
        f"The suite is not complete: {done} runs are done, {len(rest)} have begun ({at_work} of them at work now), "
        f"{len(study.missing)} cells are missing. What is compared are the seeds that are complete on both sides. "
    )
    if not at_work and not is_at_work(SuiteLayout(study.suite).lock):
        text += f"No process works on it: it has stopped. fedse suite run --resume --out {study.suite} goes on. "
    signs = [sign for run in rest if (sign := run.last_sign)]
    if signs:
        last = max(signs, key=lambda sign: sign.ended)
        yield Html.join([element("span", f"{text}Last sign of life: "), moment(last.ended), Html(".")])
    else:
        yield text
    yield from (f"Failed: {cell}" for cell in study.missing if "(failed" in cell)


def _card(name: str, before: SuccessRate, after: SuccessRate, is_course: bool) -> Html:
    small = f"was {_percent(before)} · " if is_course else ""
    return _card_of(name, _percent(after), f"{small}[{100 * after.low:.0f}–{100 * after.high:.0f}]", class_="card")


def _card_of(name: str, value: str, small: str, *, class_: str) -> Html:
    parts = (element("span", name, class_="what"), element("strong", value), element("small", small))
    return element("div", *parts, class_=class_)


def _name_cell(found: Standing, study: Study) -> Html:
    group = found.group
    is_reference = any(group.label == reference.label for reference in study.references.values())
    parts = [element("span", group.label, class_="method", style=f"--series: var(--series-{group.colour % 6})")]
    if is_reference:
        parts.append(element("span", "reference", class_="tag"))
    if group.description:
        parts.append(element("small", group.description))
    return Html.join(parts)


def _mean_cell(found: Standing) -> Html:
    if math.isnan(found.mean):
        return Html(NONE)
    if found.macro is None:
        return element("span", f"{100 * found.mean:.1f} %")
    low, high, value = (f"{100 * bound:.1f}%" for bound in (found.macro.low, found.macro.high, found.macro.value))
    series = f"var(--series-{found.group.colour % 6})"
    bar = element(
        "span", class_="bar", aria_hidden="true", style=f"--low:{low};--high:{high};--at:{value};--series:{series}"
    )
    text = f"{100 * found.macro.value:.1f} % [{100 * found.macro.low:.1f}, {100 * found.macro.high:.1f}]"
    return Html.join([element("span", text), bar])


def _gain_cell(found: Standing) -> Html:
    gain = found.gain
    if gain is None:
        return Html(NONE)
    value, low, high = (100 * bound for bound in (gain.value, gain.low, gain.high))
    text = f"{signed(value)} [{signed(low)}, {signed(high)}]"
    if low <= 0 <= high:
        return element("span", text)
    return element("strong", text, class_="better" if low > 0 else "worse")


def _rate_cell(found: Standing, environment: str) -> Html:
    if environment not in found.rates:
        return Html(NONE)
    rate = found.rates[environment]
    text = element("span", _percent(rate))
    bounds = element("small", f"[{100 * rate.low:.0f}–{100 * rate.high:.0f}]" if rate.episodes else "")
    gain = found.gain_in(environment)
    if gain is None or not found.p_in(environment) < _LEVEL:
        return Html.join([text, bounds])
    name, mark = ("better", "▲") if gain.value > 0 else ("worse", "▼")
    title = f"{name} than the reference: {_points(gain)}, p {found.p_in(environment):.2g}"
    sign = element("span", mark, class_=name, role="img", aria_label=title, title=title)
    return Html.join([text, Html(" "), sign, bounds])


def _seeds(found: Standing) -> str:
    done, planned = len(found.seeds), found.group.planned
    return str(done) if done == planned else f"{done} of {planned}"


def _points(gain: Estimate) -> str:
    value, low, high = (signed(100 * bound) for bound in (gain.value, gain.low, gain.high))
    return f"{value} points [{low}, {high}]"


def _result_rows(groups: Sequence[Group], environment: str) -> Iterator[list[str]]:
    for group in groups:
        rates = group.evaluated(environment)
        if not rates:
            continue
        several = len(group.runs) > 1
        label = _row_label(environment, group.label if len(groups) > 1 or several else "")
        yield _result_row(f"{label} ({_runs_of(group)})" if several else label, rates)
        if several:
            for run in group.runs:
                single = {
                    record.round: record.evaluation[environment]
                    for record in run.records
                    if environment in record.evaluation
                }
                if single:
                    yield _result_row(_row_label(environment, group.label_of(run)), single)


def _result_row(label: str, rates: Mapping[int, SuccessRate]) -> list[str]:
    rounds = list(rates)
    before, after = rates[rounds[0]], rates[rounds[-1]]
    if len(rounds) == 1:
        return [label, _rate(before), NONE, NONE, str(before.episodes), str(rounds[0])]
    change = NONE
    if before.episodes and after.episodes:
        change = f"{signed(100 * (after.rate - before.rate), 0)} points"
    return [label, _rate(before), _rate(after), change, str(after.episodes), f"{rounds[0]} → {rounds[-1]}"]


def _mean_row(group: Group, is_compared: bool) -> list[str] | None:
    """The mean over environments, where all were evaluated in the same rounds."""
    rates = _evaluated(group)
    rounds = sorted(set.intersection(*(set(found) for found in rates.values()))) if rates else []
    if len(rates) < 2 or not rounds:
        return None
    before, after = (
        macro_average({name: found[at] for name, found in rates.items()}) for at in (rounds[0], rounds[-1])
    )
    label = _row_label("mean of environments", group.label if is_compared else "")
    shown = [f"{100 * before:.0f} %", f"{100 * after:.0f} %", f"{signed(100 * (after - before), 0)} points"]
    if len(rounds) == 1:
        shown[1:] = [NONE, NONE]
    return [label, *shown, "", f"{rounds[0]} → {rounds[-1]}" if len(rounds) > 1 else str(rounds[0])]


def _evaluated(group: Group) -> dict[str, dict[int, SuccessRate]]:
    """Environment → round → pooled success."""
    rates = {environment: group.evaluated(environment) for environment in environments_of([group])}
    return {environment: found for environment, found in rates.items() if found}


def _runs_of(group: Group) -> str:
    """How many of a group's runs are put together in its rates."""
    shown, runs = len(group.measured), len(group.runs)
    many = f"{runs} runs" if shown == runs else f"{shown} of {runs} runs"
    return f"{many} pooled" if shown > 1 else many


def _row_label(environment: str, label: str) -> str:
    return f"{environment} · {label}" if label else environment


def _percent(rate: SuccessRate) -> str:
    return f"{100 * rate.rate:.0f} %" if rate.episodes else NONE


def _rate(rate: SuccessRate) -> str:
    if not rate.episodes:
        return NONE
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"
