"""The page: one HTML file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from fedse.report.charts import MOST_TIMELINES, all_figures
from fedse.report.episodes import MOST_TASKS, browser_data
from fedse.report.figures import Figure, inline, write_figures
from fedse.report.groups import Group, group_runs
from fedse.report.markup import Html, element, json_script
from fedse.report.reading import Run
from fedse.report.sections import progress, results, setting
from fedse.storage import atomic_write

#: No page is larger, in bytes; the episodes get what the rest leaves.
LARGEST_PAGE = 4_800_000
#: Most bytes that the episodes get.
LARGEST_EPISODES = 3_000_000

_NOTES = {  # part of charts.all_figures → what to know to read it
    "success": (
        "Intervals are Wilson's at 95 %; they take episodes as independent. Points are measured, lines only join them. "
        "Runs that differ in their seeds only are pooled, and thin lines show each."
    ),
    "exploration": (
        "Success while exploring: share of the episodes a site explored in a round that succeeded, with 95 % "
        "intervals. They are sampled, on training tasks."
    ),
    "loss": (
        "Training loss: mean over the agent's own tokens in the last quarter of a round's steps. It is measured on "
        "what the site trains on, so a low one alone says nothing about success."
    ),
    "experience": (
        "Experience: what a site's store held when it trained, namely demonstrations, episodes that it kept in earlier "
        "rounds, and those that were new. Several seeds are averaged."
    ),
    "timeline": (
        "Time: how long each site worked in each phase, one after the other; waiting for other sites is left out."
    ),
    "traffic": (
        "Traffic: size of the adapter folders that sites and server exchange, what all sites send in a round and what "
        "they are sent at its beginning."
    ),
}


def render_page(runs: Sequence[Run], *, refresh: int | None = None) -> str:
    """The report of runs as HTML.

    Args:
        runs: at least one.
        refresh: the page loads itself anew after so many seconds, for a run that goes on.

    Raises:
        RunError, StorageError: if the runs' episodes cannot be read.
    """
    groups = group_runs(runs)
    return _render(groups, all_figures(groups), refresh)


def write_page(path: Path, runs: Sequence[Run], *, refresh: int | None = None, figures: Path | None = None) -> None:
    """Write the report, and on request its figures as files.

    Args:
        path: of the page.
        runs: at least one.
        refresh: see :func:`render_page`.
        figures: folder for the figures, each as SVG and as PNG.

    Raises:
        RunError: if the runs' episodes are damaged.
        StorageError: if a file cannot be read or written.
    """
    groups = group_runs(runs)
    parts = all_figures(groups)
    page = _render(groups, parts, refresh)
    if figures is not None:
        write_figures([figure for part in parts.values() for figure in part], figures)
    atomic_write(path, page.encode(errors="xmlcharrefreplace"))


def _render(groups: Sequence[Group], parts: dict[str, list[Figure]], refresh: int | None) -> str:
    names = ", ".join(group.label for group in groups)
    results_ = _results(groups, parts["success"])
    others = {
        "learning": _section("learning", "Learning at the sites", _parts(parts, ("exploration", "loss", "experience"))),
        "costs": _section(
            "costs", "Time and traffic", _timelines_left_out(groups), _parts(parts, ("timeline", "traffic"))
        ),
        "setting": _section("setting", "What was run", setting(groups)),
    }
    used = len(results_) + sum(map(len, others.values()))
    episodes = _browser(groups, max(0, min(LARGEST_EPISODES, LARGEST_PAGE - used)))
    script = _asset("report.js")
    return Template(_asset("page.html")).substitute(
        title=element("title", f"fedse report: {names}"),
        heading=element("h1", names),
        navigation=_navigation(has_episodes=bool(episodes)),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("report.css"),
        script=script,
        refresh="" if refresh is None else element("meta", name="fedse-refresh", content=str(refresh)),
        live=_live_bar(refresh),
        content=Html.join([progress(groups), results_, episodes, *others.values()]),
    )


def _navigation(*, has_episodes: bool) -> Html:
    names = {
        "results": "Results",
        "episodes": "Episodes",
        "learning": "Learning",
        "costs": "Time",
        "setting": "Setting",
    }
    links = [element("a", text, href=f"#{name}") for name, text in names.items() if has_episodes or name != "episodes"]
    return element("nav", *links, aria_label="Parts of the report")


def _asset(name: str) -> str:
    return files("fedse.report").joinpath("static", name).read_text(encoding="utf-8")


def _live_bar(refresh: int | None) -> str:
    if refresh is None:
        return ""
    button = element("button", "Pause", type="button", id="pause", aria_pressed="false")
    text = element("span", f"This run goes on; the page loads itself anew every {refresh} s.")
    return element("p", text, Html(" "), button, class_="notice")


def _section(identity: str, heading: str, *content: str) -> Html:
    title = element("h2", heading, id=f"{identity}-heading")
    return element("section", title, *content, id=identity, aria_labelledby=f"{identity}-heading")


def _results(groups: Sequence[Group], figures: Sequence[Figure]) -> Html:
    if not any(run.evaluated for group in groups for run in group.runs):
        return _section("results", "Results", element("p", "No round has been evaluated yet."))
    return _section("results", "Results", _note("success"), results(groups), _grid(figures))


def _parts(parts: dict[str, list[Figure]], names: Sequence[str]) -> Html:
    shown = [name for name in names if parts[name]]
    if not shown:
        return element("p", "Nothing has been recorded yet.")
    notes = [_note(name) for name in shown]
    return Html.join([*notes, _grid([figure for name in shown for figure in parts[name]])])


def _note(part: str) -> Html:
    return element("p", _NOTES[part], class_="note")


def _timelines_left_out(groups: Sequence[Group]) -> Html:
    runs = sum(len(group.runs) for group in groups)
    if runs <= MOST_TIMELINES:
        return Html("")
    return element("p", f"Timelines are those of the first {MOST_TIMELINES} of {runs} runs.", class_="notice")


def _grid(figures: Sequence[Figure]) -> Html:
    return element("div", *(inline(figure) for figure in figures), class_="grid")


def _browser(groups: Sequence[Group], budget: int) -> Html:
    data = browser_data(groups, budget=budget)
    if not data["shelves"]:
        return Html("")
    note = (
        "The same held-out task, played by the adapter before the first round and after the last one evaluated. The "
        "agent's own words, marked at their edge, are what carries loss when an episode is trained on; held-out "
        f"episodes never are. At most {MOST_TASKS} tasks of each environment of a run are on this page, the first, "
        "whatever their outcome."
    )
    body = Html(_asset("browser.html"))
    return _section("episodes", "Episodes", element("p", note, class_="note"), body, json_script("episode-data", data))
