"""The page: one HTML file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from fedse.errors import ConfigError
from fedse.report.charts import all_figures
from fedse.report.episodes import MOST_TASKS, EpisodeData, episode_data
from fedse.report.figures import Figure, inline, write_figures
from fedse.report.markup import Html, data_script, element
from fedse.report.sections import before_and_after, headline, methods_table, notices, setting
from fedse.report.study import Study
from fedse.report.timeline import MOST_TIMELINES, timeline_runs
from fedse.results.groups import Group
from fedse.results.standings import Standing
from fedse.settings import dump_config
from fedse.storage import atomic_write, storage_errors

#: Bytes that the episodes may fill a page to; one whose other parts are larger by themselves has none.
LARGEST_PAGE = 4_800_000
#: Most bytes that the episodes get, packed.
LARGEST_EPISODES = 3_000_000

_SUBJECT = "fedse-subject"
#: Bytes of a page that tell what it is about.
_HEAD = 4096
_TABLE_NOTE = (
    "Success on held-out tasks after the last round, over all seeds. The mean of the environments is the primary "
    "endpoint. Intervals are 95 % bootstrap intervals over tasks and seeds, or Wilson's for an environment with one "
    "episode a task, or with nothing but failures or successes. The difference is paired on the same tasks and seeds, "
    "and bold where its interval excludes zero. ▲ and ▼: better or worse than the reference in that environment, "
    "p < 0.05 by the exact paired test over tasks (McNemar's, with one episode per task) with Holm's correction over "
    "the environments. All episodes: successes out of all, so that larger test sets count more."
)
_NO_ROOM = (
    "There are episodes, but not one task of each run fits on this page. fedse view RUN --evaluation shows them, and a "
    "page of fewer runs has room for some."
)
_BARS_NOTE = "Bars are differences to the reference, whiskers the paired 95 % interval; grey where that includes zero."
_PARTS = {  # part of charts.all_figures → heading, and what to know to read it
    "success": (
        "Success over the rounds",
        "Bands reach from the lowest seed to the highest, or are Wilson's 95 % interval where there is one run. Points "
        "are measured, lines only join them; a dotted line is a method without rounds. Of a method with complete runs "
        "there are these; while none is complete, there are the rounds that all of its runs have.",
    ),
    "demonstrations": (
        "Success by demonstrations",
        "Success after the last round, with 95 % intervals, by how many demonstrations a site begins with.",
    ),
    "ablations": ("", f"Each ablation changes one thing in the reference. {_BARS_NOTE}"),
    "bytes": (
        "Success against bytes",
        "Success after the last round, with 95 % intervals, against what a site sends in a round.",
    ),
    "transfer": (
        "Transfer",
        "The adapter that each isolated site has after the last round, on the held-out tasks of every site, seeds "
        "pooled.",
    ),
    "conflict": (
        "Conflict of the updates",
        "Cosines: mean over pairs of sites; 1 is the same direction, 0 nothing in common, below 0 the sites undo each "
        "other's work. κ: length of the mean update over the mean length, 1/√K for K orthogonal updates. Aggregation "
        "error: what is lost because factors are averaged, not their products. Bands reach from the lowest seed to the "
        "highest.",
    ),
    "exploration": (
        "Exploration",
        "Share of the episodes a site explored in a round that succeeded, of one run with 95 % intervals; of several "
        "seeds the thin lines are each. They are sampled, on training tasks.",
    ),
    "loss": (
        "Training loss",
        "Mean over the agent's own tokens in the last quarter of a round's steps. It is measured on what the site "
        "trains on, so a low one alone says nothing about success.",
    ),
    "experience": (
        "Experience",
        "What the stores held when the sites trained, namely demonstrations, episodes that were kept in earlier "
        "rounds, and those that were new. Several seeds are averaged.",
    ),
    "timeline": (
        "Time",
        "When each site worked in which phase, by the times at which it marked them as complete; a dotted line is a "
        "pause of all sites that is cut out. Where a copy of the folder has lost these times, the phases follow each "
        "other without the waiting.",
    ),
    "traffic": (
        "Traffic",
        "Size of the messages with adapters: what all sites send in a round, and what they are sent at its beginning.",
    ),
}
_SECTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # identity → (heading, name in the navigation, parts of charts.all_figures)
    "results": ("Results", "Results", ()),
    "ablations": ("Ablations", "Ablations", ("ablations",)),
    "episodes": ("Episodes, before and after", "Episodes", ()),
    "exchange": ("What the sites exchange", "Exchange", ("bytes", "transfer", "conflict", "traffic")),
    "learning": ("Learning at the sites", "Learning", ("exploration", "loss", "experience")),
    "time": ("Time", "Time", ("timeline",)),
    "setting": ("What was run", "Setting", ()),
}


def render_page(study: Study, *, refresh: int | None = None) -> str:
    """The report of a suite or of runs as HTML; after ``refresh`` seconds it loads itself anew, for runs that go on.

    Raises:
        RunError, StorageError: if the runs' episodes cannot be read.
        AdapterError: if an adapter is damaged.
    """
    standings = study.standings()
    return _render(study, standings, all_figures(study, standings), refresh)


def write_page(path: Path, study: Study, *, refresh: int | None = None, figures: Path | None = None) -> None:
    """Write the report (:func:`render_page`), and on request its figures into a folder, each as SVG and as PNG.

    Raises:
        RunError, AdapterError: if the runs' episodes or an adapter are damaged.
        StorageError: if a file cannot be read or written.
    """
    standings = study.standings()
    parts = all_figures(study, standings)
    page = _render(study, standings, parts, refresh)
    if figures is not None:
        write_figures([figure for part in parts.values() for figure in part], figures)
    atomic_write(path, page.encode(errors="xmlcharrefreplace"))


def subject_of(study: Study) -> str:
    """A digest of what a page is about: the name of the suite's folder, or those of the runs' and their settings."""
    about: list[object] = [study.title]
    if study.suite is not None:  # its runs become more
        about.append(study.suite.resolve().name)
    else:
        about += sorted((run.folder.resolve().name, dump_config(run.config)) for run in study.runs)
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def check_subject(path: Path, study: Study) -> None:
    """Refuse to replace what is no page about the same suite or runs, as where nobody chose the path.

    Raises:
        ConfigError: if something else is there.
        StorageError: if it cannot be read.
    """
    if not path.exists():
        return
    with storage_errors("read", path), path.open("rb") as file:
        head = file.read(_HEAD)
    if element("meta", name=_SUBJECT, content=subject_of(study)).encode() not in head:
        raise ConfigError(
            f"{path} is there, and no page of this {study.title}", "name another: --out NAME.html, or remove it"
        )


def _render(
    study: Study, standings: Sequence[Standing], parts: Mapping[str, Sequence[Figure]], refresh: int | None
) -> str:
    sections = {"results": _results(study, standings, parts)}
    for identity, (_, _, names) in _SECTIONS.items():
        content = [_part(name, parts[name], with_heading=len(names) > 1) for name in names if parts[name]]
        if content:
            extra = _extra(identity, study, standings)
            sections[identity] = _section(identity, extra, element("div", *content, class_="parts"))
    if study.groups:
        sections["setting"] = _section("setting", setting(study.groups))
    used = sum(len(section.encode(errors="replace")) for section in sections.values())
    episodes = episode_data(study, budget=max(0, min(LARGEST_EPISODES, LARGEST_PAGE - used)))
    if episodes.shown:
        sections["episodes"] = _browser(study, episodes)
    elif episodes.left_out:
        sections["episodes"] = _section("episodes", element("p", _NO_ROOM, class_="notice"))
    order = [name for name in _SECTIONS if name in sections]
    links = [element("a", _SECTIONS[name][1], href=f"#{name}") for name in order]
    script = "".join(_asset(name) for name in ("report.js", "browser.js"))
    return Template(_asset("page.html")).substitute(
        title=element("title", f"fedse report: {study.title}"),
        heading=element("h1", study.title),
        description=element("p", study.description, class_="lead") if study.description else "",
        navigation=element("nav", *links, aria_label="Parts of the report"),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=_asset("report.css"),
        script=script,
        subject=element("meta", name=_SUBJECT, content=subject_of(study)),
        refresh="" if refresh is None else element("meta", name="fedse-refresh", content=str(refresh)),
        live=_live_bar(refresh),
        content=Html.join([notices(study), *(sections[name] for name in order)]),
    )


def _asset(name: str) -> str:
    return files("fedse.report").joinpath("static", name).read_text(encoding="utf-8")


def _live_bar(refresh: int | None) -> str:
    if refresh is None:
        return ""
    text = element("span", f"This page follows the work and loads itself anew every {refresh} s.")
    return element("p", text, Html(" "), element("button", "Pause", type="button", id="pause"), class_="notice")


def _section(identity: str, *content: str) -> Html:
    title = element("h2", _SECTIONS[identity][0], id=f"{identity}-heading")
    return element("section", title, *content, id=identity, aria_labelledby=f"{identity}-heading")


def _results(study: Study, standings: Sequence[Standing], parts: Mapping[str, Sequence[Figure]]) -> Html:
    if not any(run.evaluated for run in study.runs):
        return _section("results", element("p", "No round has been evaluated yet."))
    course = _part("success", [*parts["differences"], *parts["success"]], with_heading=True)
    bars = [_note(_BARS_NOTE)] if parts["differences"] else []
    if len(study.groups) == 1:
        group = study.groups[0]
        return _section("results", headline(group), course, before_and_after([group]))
    table = methods_table(study, _of(standings, study.methods), "Methods: success on held-out tasks")
    unfolded = element("details", element("summary", "Before and after, run by run"), before_and_after(study.methods))
    shown = parts["demonstrations"]
    by_demonstrations = [_part("demonstrations", shown, with_heading=True)] if shown else []
    return _section("results", table, _note(_TABLE_NOTE), unfolded, *bars, *by_demonstrations, course)


def _of(standings: Sequence[Standing], groups: Iterable[Group]) -> list[Standing]:
    labels = {group.label for group in groups}
    return [standing for standing in standings if standing.group.label in labels]


def _extra(identity: str, study: Study, standings: Sequence[Standing]) -> Html:
    """What a section holds beside its figures."""
    if identity == "ablations":
        rows = _of(standings, [*study.references.values(), *study.ablations])
        return methods_table(study, rows, "Ablations: success on held-out tasks")
    if identity == "time" and (runs := len(timeline_runs(study.methods))) > MOST_TIMELINES:
        first = "the first run of each method before any second."
        return element("p", f"Timelines are those of {MOST_TIMELINES} of {runs} runs, {first}", class_="notice")
    return Html("")


def _part(name: str, figures: Sequence[Figure], *, with_heading: bool) -> Html:
    heading, note = _PARTS[name]
    title = [element("h3", heading)] if with_heading else []
    grid = element("div", *(inline(figure) for figure in figures), class_="grid")
    return element("div", *title, _note(note), grid, class_="part")


def _note(text: str) -> Html:
    return element("p", text, class_="note")


def _browser(study: Study, episodes: EpisodeData) -> Html:
    note = (
        "The same held-out task, played by the adapter before the first round and after the last one evaluated. The "
        "agent's own words, marked at their edge, are what carries loss when an episode is trained on; held-out "
        "episodes themselves never are."
    )
    if episodes.left_out:
        note += (
            f" On this page are the first {episodes.shown} tasks of each environment, whatever their outcome and for "
            f"every method and seed (at most {MOST_TASKS}, fewer where more would make the page too large)."
        )
    if study.ablations:
        note += " Of an ablation there are the episodes of its first seed."
    data = data_script("episode-data", episodes.packed)
    return _section("episodes", _note(note), Html(_asset("browser.html")), data)
