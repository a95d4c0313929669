"""The parts of the page that are words and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from fedse.evaluation import macro_average
from fedse.report.markup import Html, element, table
from fedse.report.study import Study
from fedse.results.formatting import NONE, bounds, excludes_zero, percent, points, rate_with_interval, true_minus
from fedse.results.groups import Course, Group, environments_of, evaluated_in
from fedse.results.reading import Run
from fedse.results.standings import Standing
from fedse.results.words import settings_in_words, versions_in_words
from fedse.runs.identity import method_settings
from fedse.settings import dump_config
from fedse.suites import SuiteLayout
from fedse.texts import command, counted

_MOST_COLUMNS = 4
_NOT_SETTINGS = ("seeds", "software")
_BEFORE_AND_AFTER = (
    "Success on held-out tasks, with Wilson's 95 % intervals; that of pooled runs reaches from the lowest bound to the "
    "highest"
)


def notices(study: Study) -> Html:
    """What the reader has to know first: runs that are not complete, or do not count, and what went wrong."""
    runs = study.labelled_runs
    if study.suite is not None:
        open_ = list(_suite_progress(study))
    else:
        open_ = [_run_progress(label, run) for label, run in runs if not run.is_complete]
    twice = [
        f"{group.label} has several runs of one seed; the first that is complete counts, because repeating a seed adds "
        f"no evidence."
        for group in study.groups
        if len({run.config.seed for run in group.runs}) < len(group.runs)
    ]
    lost = [
        f"{label}, {environment}: faults took {counted(rate.errors, 'held-out episode')} of round {record.round}, "
        f"which no rate counts."
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
    return Html.join(map(_notice, [*open_, *twice, *lost, *refused]))


def headline(group: Group) -> Html:
    """The results of one method as cards: success after the last round, and what it was before the first."""
    courses = group.courses()
    finals = {name: course[max(course)] for name, course in courses.items()}
    cards = []
    if len(finals) > 1 and not math.isnan(mean := macro_average(finals)):
        cards.append(_card("mean", percent(mean), f"of {counted(len(finals), 'environment')}", class_="card mean"))
    for name, course in courses.items():
        was = f"was {percent(course[min(course)].rate)} · " if len(course) > 1 else ""
        cards.append(_card(name, percent(finals[name].rate), f"{was}[{bounds(finals[name])}]", class_="card"))
    shown = element("div", *cards, class_="cards")
    if len(group.measured) == len(group.runs):
        return shown
    return Html.join([shown, element("p", f"Of {_runs_of(group)}.", class_="note")])


def methods_table(study: Study, standings: Sequence[Standing], caption: str) -> Html:
    """A row for each method: the mean of environments with its interval, the difference to the reference, each rate."""
    environments = environments_of([found.group for found in standings])
    head = ["method", "mean of environments [95 %]", "difference [95 %]", *environments, "all episodes", "seeds"]
    rows = []
    for found in standings:
        done, planned = len(found.seeds), found.group.planned
        seeds = str(done) if done == planned else f"{done} of {planned}"
        rates = (_rate_cell(found, environment) for environment in environments)
        first = (_name_cell(found, study), _mean_cell(found), _gain_cell(found))
        rows.append([*first, *rates, percent(found.weighted), seeds])
    obstacles = [f"{found.group.label} is not compared: {found.obstacle}." for found in standings if found.obstacle]
    return Html.join([table(head, rows, caption=caption), *map(_notice, obstacles)])


def before_and_after(groups: Sequence[Group]) -> Html:
    """Success before the first round and after the last one evaluated, for each group and, with seeds, each run."""
    rows = [row for environment in environments_of(groups) for row in _result_rows(groups, environment)]
    rows += [row for group in groups if (row := _mean_row(group, len(groups) > 1))]
    headings = ("environment", "before", "after", "change", "episodes", "rounds")
    return table(headings, rows, caption=_BEFORE_AND_AFTER)


def setting(groups: Sequence[Group]) -> Html:
    """Settings in short, what differs between the groups, and a whole configuration of each."""
    columns = [_summary(group) for group in groups]
    common = {name: text for name, text in columns[0].items() if all(column[name] == text for column in columns)}
    caption, heading = "What all have in common", "all"
    if len(groups) == 1:
        caption, heading = "Configuration in short", groups[0].label
    parts = [table(["", heading], [[name, text] for name, text in common.items()], caption=caption, numbers_from=2)]
    own = [[name, *(column[name] for column in columns)] for name in _NOT_SETTINGS if name not in common]
    if differing := [*own, *_differing(groups)]:
        parts.append(_by_group(groups, differing))
    for group in groups:
        run = group.runs[0]
        label = group.label if len(group.runs) == 1 else f"{group.label_of(run)} (the others differ in the seed)"
        folders = element("p", f"In {', '.join(str(other.folder) for other in group.runs)}", class_="note")
        content = Html.join([folders, element("pre", dump_config(run.config), tabindex="0")])
        parts.append(element("details", element("summary", f"{label}: whole configuration"), content))
    return Html.join(parts)


def moment(seconds: float) -> Html:
    """A point in time; the page's script adds how long ago that is."""
    when = datetime.fromtimestamp(seconds, UTC)
    return element("time", f"{when:%Y-%m-%d %H:%M:%S} UTC", datetime=when.isoformat())


def _notice(text: str) -> Html:
    return element("p", text, class_="notice")


def _run_progress(label: str, run: Run) -> Html:
    done = f"{label} is not complete: {run.rounds_done} of {counted(run.config.rounds, 'round')} done. "
    if run.is_at_work:
        done += "A process works on it. "
    else:
        again = command("fedse run --resume --out", run.folder)
        done += f"No process works on it: it has stopped. It goes on with {again}. "
    sign = run.last_sign
    if sign is None or sign.ended is None:
        return element("span", done)
    last = f"Last sign of life: {sign.phase.value} at {sign.site}, round {sign.round}, ended "
    return Html.join([element("span", done + last), moment(sign.ended), Html(".")])


def _suite_progress(study: Study) -> Iterator[str]:
    runs = study.runs
    if study.is_complete or study.suite is None:
        return
    rest, at_work = [run for run in runs if not run.is_complete], sum(run.is_at_work for run in runs)
    text = (
        f"The suite is not complete: {counted(len(runs) - len(rest), 'run')} done, {len(rest)} begun ({at_work} of "
        f"them at work now), {counted(len(study.missing), 'cell')} missing. What is compared are the seeds that are "
        f"complete on both sides. "
    )
    if not at_work and not SuiteLayout(study.suite).is_at_work:
        again = command("fedse suite run --resume --out", study.suite)
        text += f"No process works on it: it has stopped. {again} goes on. "
    ends = [sign.ended for run in rest if (sign := run.last_sign) and sign.ended]
    if ends:
        yield Html.join([element("span", f"{text}Last sign of life: "), moment(max(ends)), Html(".")])
    else:
        yield text
    yield from (f"Failed: {cell}" for cell in study.missing if "(failed" in cell)


def _card(name: str, value: str, small: str, *, class_: str) -> Html:
    parts = (element("span", name, class_="what"), element("strong", value), element("small", small))
    return element("div", *parts, class_=class_)


def _name_cell(found: Standing, study: Study) -> Html:
    group = found.group
    parts = [element("span", group.label, class_="method", style=f"--series: var(--series-{group.colour % 6})")]
    if any(group.label == reference.label for reference in study.references.values()):
        parts.append(element("span", "reference", class_="tag"))
    if group.description:
        parts.append(element("small", group.description))
    return Html.join(parts)


def _mean_cell(found: Standing) -> Html:
    macro = found.means.macro
    if math.isnan(found.mean):
        return Html(NONE)
    if macro is None:
        return element("span", percent(found.mean, 1))
    low, high, value = (f"{100 * bound:.1f}%" for bound in (macro.low, macro.high, macro.value))
    style = f"--low:{low};--high:{high};--at:{value};--series:var(--series-{found.group.colour % 6})"
    text = element("span", f"{percent(macro.value, 1)} [{bounds(macro, 1, ', ')}]")
    return Html.join([text, element("span", class_="bar", aria_hidden="true", style=style)])


def _gain_cell(found: Standing) -> Html:
    gain = found.gain
    if gain is None:
        return Html(NONE)
    if not excludes_zero(gain):
        return element("span", true_minus(points(gain)))
    return element("strong", true_minus(points(gain)), class_="better" if gain.low > 0 else "worse")


def _rate_cell(found: Standing, environment: str) -> Html:
    if environment not in found.rates:
        return Html(NONE)
    rate, against = found.rates[environment], found.against_in(environment)
    text, mark = element("span", percent(rate.rate)), found.mark_in(environment)
    interval = element("small", f"[{bounds(rate)}]" if rate.episodes else "")
    if against is None or not mark:
        return Html.join([text, interval])
    name = "better" if mark == "▲" else "worse"
    gain = true_minus(points(against.rates.difference)).replace(" [", " points [")
    title = f"{name} than the reference: {gain}, p {against.p_holm:.2g}"
    sign = element("span", mark, class_=name, role="img", aria_label=title, title=title)
    return Html.join([text, Html(" "), sign, interval])


def _result_rows(groups: Sequence[Group], environment: str) -> Iterator[list[str]]:
    for group in groups:
        rates = group.evaluated(environment)
        if not rates:
            continue
        several = len(group.runs) > 1
        label = _row_label(environment, group.label if len(groups) > 1 or several else "")
        yield _result_row(f"{label} ({_runs_of(group)})" if several else label, rates)
        for run in group.runs if several else ():
            if single := evaluated_in(run, environment):
                yield _result_row(_row_label(environment, group.label_of(run)), single)


def _result_row(label: str, rates: Course) -> list[str]:
    first, last = min(rates), max(rates)
    before, after = rates[first], rates[last]
    change = _change(before.rate, after.rate) if before.episodes and after.episodes else NONE
    shown = [rate_with_interval(before), rate_with_interval(after), change]
    return _before_and_after_row(label, shown, str(after.episodes), first, last)


def _mean_row(group: Group, is_compared: bool) -> list[str] | None:
    """The mean over environments, where all were evaluated in the same rounds."""
    courses = group.courses()
    rounds = sorted(set.intersection(*(set(course) for course in courses.values()))) if courses else []
    if len(courses) < 2 or not rounds:
        return None
    before, after = (
        macro_average({name: course[at] for name, course in courses.items()}) for at in (rounds[0], rounds[-1])
    )
    label = _row_label("mean of environments", group.label if is_compared else "")
    shown = [percent(before), percent(after), _change(before, after)]
    return _before_and_after_row(label, shown, "", rounds[0], rounds[-1])


def _before_and_after_row(label: str, shown: Sequence[str], episodes: str, first: int, last: int) -> list[str]:
    """``shown`` is the rate before, that after, and the change; of one round there is but the first."""
    if first == last:
        return [label, shown[0], NONE, NONE, episodes, str(first)]
    return [label, *shown, episodes, f"{first} → {last}"]


def _change(before: float, after: float) -> str:
    return true_minus(f"{100 * (after - before):+.0f} points")


def _runs_of(group: Group) -> str:
    """How many of a group's runs are put together in its rates."""
    shown, runs = len(group.measured), len(group.runs)
    many = counted(runs, "run") if shown == runs else f"{shown} of {counted(runs, 'run')}"
    return f"{many} pooled" if shown > 1 else many


def _row_label(environment: str, label: str) -> str:
    return f"{environment} · {label}" if label else environment


def _by_group(groups: Sequence[Group], differing: Sequence[list[str]]) -> Html:
    """A column for each of a few groups, a row for each of many."""
    rows = [["", *(group.label for group in groups)], *differing]
    if len(groups) > _MOST_COLUMNS:
        rows = [list(column) for column in zip(*rows, strict=True)]
    return table(rows[0], rows[1:], caption="Settings that differ", numbers_from=len(rows[0]))


def _summary(group: Group) -> dict[str, str]:
    config = group.runs[0].config
    done = (f"{'' if run.is_complete else f'{run.rounds_done} of '}{run.config.rounds}" for run in group.runs)
    return {
        "seeds": ", ".join(dict.fromkeys(str(run.config.seed) for run in group.runs)),
        "rounds": ", ".join(dict.fromkeys(done)),
        **settings_in_words(config, config.clients),
        "software": "; ".join(dict.fromkeys(versions_in_words(run) or "unknown" for run in group.runs)),
    }


def _differing(groups: Sequence[Group]) -> list[list[str]]:
    settings = [method_settings(group.runs[0].config) for group in groups]
    keys = dict.fromkeys(key for of_group in settings for key in of_group)
    rows = {key: [_shown(of_group[key]) if key in of_group else NONE for of_group in settings] for key in keys}
    return [[key, *values] for key, values in rows.items() if len(set(values)) > 1]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_shown(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={entry}" for name, entry in value.items() if entry not in (None, {}))
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
