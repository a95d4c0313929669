from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from fedse.errors import RunError
from fedse.experience.trajectory_files import write_trajectories
from fedse.report import follow, read_study, render_page, write_page
from fedse.report.charts import all_figures
from fedse.report.episodes import MOST_TASKS, EpisodeData, episode_data
from fedse.report.page import LARGEST_PAGE
from fedse.results.groups import group_runs
from fedse.results.reading import read_runs
from fedse.runs.layout import RunFolder
from fedse.seeding import numpy_generator
from helpers.report_runs import Page, begin, config, episode, finish_round, made_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & <!-- \u2028 $content"


def rendered(*folders: Path) -> str:
    return render_page(read_study(folders))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return rendered(made_run(tmp_path_factory.mktemp("runs") / "made"))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_needs_nothing_from_outside(html: str, page: Page) -> None:
    assert not {"link", "img", "iframe", "object", "audio", "video"} & {tag for tag, _ in page.elements}
    links = [value for _, found in page.elements for name, value in found.items() if name.endswith(("href", "src"))]
    assert links
    assert all(str(link).startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|\bimport\(", html)


def test_only_the_pages_own_script_may_run(page: Page) -> None:
    [policy] = [found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
    [script] = [text for text in page.texts["script"] if "use strict" in text]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]


def test_the_page_is_well_formed_and_labelled(page: Page) -> None:
    assert page.unbalanced == page.open == []
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    referred = {str(found["aria-labelledby"]) for _, found in page.elements if "aria-labelledby" in found}
    referred |= {str(found["href"]).removeprefix("#") for found in page.all("a")}
    assert referred <= set(ids)
    assert all(found.get("role") == "img" for found in page.all("svg"))
    assert len(page.texts["title"]) == 1 + len(page.all("svg"))
    assert any(found.get("name") == "viewport" for found in page.all("meta"))


def test_figures_take_the_colours_of_the_page(html: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--series-0)" in charts
    assert re.findall(r"#[0-9a-f]{6}", charts) == []


def test_results_are_those_of_the_metrics(page: Page) -> None:
    cells = page.texts["td"]
    assert "0 % [0–32]" in cells
    assert "75 % [41–93]" in cells
    assert "+75 points" in cells
    assert "0 → 2" in cells


def test_every_part_has_its_numbers(page: Page) -> None:
    headings = page.texts["th"]
    assert "west, round 2" in headings
    assert {"33.3 %", "66.7 %"} <= set(page.texts["td"])  # of three episodes: the one that was lost counts in no rate
    assert "west: experience store" in page.texts["figcaption"]
    titles = " ".join(page.texts["figcaption"])
    for part in ("held-out success", "exploration success", "training loss", "adapters on their way"):
        assert part in titles


def test_text_from_runs_is_never_markup(tmp_path: Path) -> None:
    clients = [{"name": "west", "environment": "maze", "options": {"look": HOSTILE}}]
    folder = made_run(tmp_path / "<b>run", name=HOSTILE, clients=clients)
    write_trajectories(
        RunFolder(folder).site("west").environment("west").evaluation(2), [episode(HOSTILE, success=True, text=HOSTILE)]
    )
    target = tmp_path / "page.html"
    write_page(target, read_study([folder]))
    page = Page(target.read_text())
    assert len(page.all("script")) == 2
    assert page.all("img") == page.all("b") == []
    assert page.unbalanced == []
    episodes = page.episodes
    [last] = [after for task, before, after in episodes["shelves"][0]["pairs"] if before < 0 and task == HOSTILE]
    assert text_of(episodes, last, 0) == HOSTILE
    assert any(HOSTILE in found for found in page.texts["h1"])


def text_of(episodes: Any, number: int, part: int) -> str:
    """Observation (0), thought (1) or action (2) of an episode's first turn."""
    return str(episodes["texts"][episodes["episodes"][number]["turns"][0][part]])


def outcomes_of(episodes: Any, shelf: int = 0) -> dict[str, tuple[str, str]]:
    """Task → outcome before and after."""
    names = [episode["outcome"] for episode in episodes["episodes"]]
    return {task: (names[before], names[after]) for task, before, after in episodes["shelves"][shelf]["pairs"]}


def test_episodes_are_paired_by_task(page: Page) -> None:
    episodes = page.episodes
    [shelf] = episodes["shelves"]
    expected = {"method": "made", "seed": 0, "environment": "maze", "rounds": [0, 2], "total": 8}
    assert {key: shelf[key] for key in expected} == expected
    outcomes = outcomes_of(episodes)
    assert outcomes["task/0"] == ("failure", "success")
    assert outcomes["task/7"] == ("failure", "failure")
    after = shelf["pairs"][0][2]
    assert episodes["episodes"][after]["tokens"] == [20, 5, 8, 12, 16]
    assert [text_of(episodes, after, part) for part in range(3)] == [
        "You are here.",
        "Thought: You are here.\n",
        "Action: go",
    ]
    assert episodes["texts"][episodes["episodes"][after]["instruction"]] == "Find the goal."


@pytest.mark.usefixtures("sketched")
def test_samples_of_one_task_are_paired_in_their_order(tmp_path: Path) -> None:
    layout = begin(tmp_path / "run", run := config(rounds=1))
    finish_round(layout, run, 0, [episode("same", success=False), episode("same", success=True)])
    finish_round(layout, run, 1, [episode("same", success=True), episode("same", success=None)])
    assert outcomes_of(Page(rendered(tmp_path / "run")).episodes) == {
        "same": ("failure", "success"),
        "same, sample 2": ("success", "fault"),
    }


def noisy_run(folder: Path, *, tasks: int, length: int, name: str = "made") -> Path:
    """A run whose observations cannot be compressed to less than half; they are ``2 * length`` characters long."""
    layout = begin(folder, run := config(rounds=1, name=name))
    for round in (0, 1):
        noise = [numpy_generator(name, round, index).bytes(length).hex() for index in range(tasks)]
        held_out = [episode(f"task/{at}", success=True, text=text) for at, text in enumerate(noise)]
        finish_round(layout, run, round, held_out)
    return folder


@pytest.mark.usefixtures("sketched")
def test_big_runs_make_a_page_of_bounded_size_that_says_what_is_left_out(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", read_study([noisy_run(tmp_path / "run", tasks=MOST_TASKS + 5, length=6000)]))
    assert (tmp_path / "page.html").stat().st_size < LARGEST_PAGE
    page = Page((tmp_path / "page.html").read_text())
    episodes = page.episodes
    [shelf] = episodes["shelves"]
    assert shelf["total"] == MOST_TASKS + 5
    assert [task for task, _, _ in shelf["pairs"]] == [f"task/{index}" for index in range(MOST_TASKS)]
    assert any(f"On this page are the first {MOST_TASKS} tasks" in text for text in page.texts["p"])
    assert text_of(episodes, shelf["pairs"][0][2], 0).endswith("… (6000 more characters)")


def test_the_episodes_take_no_more_than_their_budget(tmp_path: Path) -> None:
    """Every shelf loses the same tasks, the last ones."""
    study = read_study([noisy_run(tmp_path / name, tasks=20, length=400, name=name) for name in ("a", "b")])
    whole = episode_data(study, budget=1_000_000)
    assert (whole.shown, whole.left_out) == (20, 0)
    budget = len(whole.packed) // 2
    part = episode_data(study, budget=budget)
    assert 5 < part.shown < 15
    assert part.left_out == 2
    assert len(part.packed) < 1.1 * budget


def test_without_room_for_a_task_no_browser_is_shown_but_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study([made_run(tmp_path / "run")])
    assert episode_data(study, budget=10) == EpisodeData("", 0, 1)
    monkeypatch.setattr("fedse.report.page.LARGEST_PAGE", 1000)
    monkeypatch.setattr("fedse.report.episodes._shelf", lambda _: pytest.fail("there is no room for them"))
    page = Page(render_page(study))
    assert not [found for found in page.all("div") if found.get("id") == "browser"]
    assert any("not one task of each run fits on this page" in text for text in page.texts["p"])


@pytest.mark.usefixtures("sketched")
def test_sites_may_keep_their_files_to_themselves(tmp_path: Path) -> None:
    """What the server of a real federation has: no file of a site."""
    folder = made_run(tmp_path / "run")
    for path in sorted((folder / "sites").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    page = Page(rendered(folder))
    assert "75 % [41–93]" in page.texts["td"]
    assert not [found for found in page.all("section") if found["id"] == "episodes"]


@pytest.mark.usefixtures("sketched")
def test_seeds_are_pooled_and_methods_compared(tmp_path: Path) -> None:
    folders = [
        made_run(tmp_path / "a", seed=0, successes=(0, 2, 4)),
        made_run(tmp_path / "b", seed=1, successes=(0, 2, 8)),
        made_run(tmp_path / "c", name="other", method={"history": False}),
    ]
    page = Page(rendered(*folders, folders[0]))  # the run that is named twice counts once
    rows = page.texts["th"]
    assert "maze · made (2 runs pooled)" in rows
    assert {"maze · made, seed 0", "maze · made, seed 1", "maze · other"} <= set(rows)
    assert "75 % [22–100]" in page.texts["td"]  # 4 of 8 and 8 of 8, on the same tasks
    assert "method.history" in rows
    assert [found for found in page.texts["figcaption"] if "held-out success" in found] == ["maze: held-out success"]
    shelves = [(shelf["method"], shelf["seed"]) for shelf in page.episodes["shelves"]]
    assert shelves == [("made", 0), ("made", 1), ("other", 0)]


def test_different_configurations_of_one_name_stay_apart(tmp_path: Path) -> None:
    folders = [made_run(tmp_path / "a"), made_run(tmp_path / "b", method={"history": False})]
    groups = group_runs(read_runs(folders))
    assert [group.label for group in groups] == ["made (a)", "made (b)"]
    study = read_study(folders)
    names = [figure.name for part in all_figures(study, study.standings()).values() for figure in part]
    assert len(names) == len(set(names))


@pytest.mark.usefixtures("sketched")
def test_of_several_runs_of_one_seed_the_first_that_is_complete_counts(tmp_path: Path) -> None:
    folders = [
        made_run(tmp_path / "stopped", successes=(0, 7)),
        made_run(tmp_path / "a", successes=(0, 2, 4)),
        made_run(tmp_path / "b", successes=(0, 2, 8)),
        made_run(tmp_path / "other", name="other", method={"history": False}),
    ]
    study = read_study(folders)
    [made, other] = study.standings()
    assert (made.seeds, made.group.planned) == ((0,), 1)
    assert (made.rates["maze"].successes, made.rates["maze"].episodes) == (4, 8)
    assert (made.mean, other.gain.value if other.gain else None) == (0.5, pytest.approx(0.25))
    assert made.group.explored("west")[1].episodes == 3
    page = Page(render_page(study))
    assert any("several runs of one seed; the first that is complete counts" in text for text in page.texts["p"])
    assert "maze · made (1 of 3 runs)" in page.texts["th"]
    assert [shelf["seed"] for shelf in page.episodes["shelves"]] == [0, 0]  # one run of each method


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(
    ("further", "shown", "rounds"),
    [((1, 2, 7), "1 of 2 runs", "0 → 4"), ((1, 2), "2 runs pooled", "0 → 1")],
    ids=["complete", "stopped"],
)
def test_a_change_is_between_the_same_runs(tmp_path: Path, further: tuple[int, ...], shown: str, rounds: str) -> None:
    """One seed is in round 1, the other complete, or further as well and stopped."""
    settings = {"rounds": 4}
    ahead = made_run(tmp_path / "ahead", seed=0, successes=(0, 2, *further), **settings)
    behind = made_run(tmp_path / "behind", seed=1, successes=(4, 4), **settings)
    study = read_study([ahead, behind])
    [group] = study.groups
    rates = group.evaluated("maze")
    assert len({rate.episodes for rate in rates.values()}) == 1
    page = Page(render_page(study))
    at = page.texts["th"].index(f"maze · made ({shown})")
    assert at >= 0
    assert rounds in page.texts["td"]
    assert f"{min(rates)} → {max(rates)}" == rounds
    assert any(f"Of {shown}." in text for text in page.texts["p"]) == (shown == "1 of 2 runs")
    [curve] = [figure for figure in all_figures(study, study.standings())["success"] if "maze" in figure.name]
    assert [row[0] for row in curve.rows] == [f"made, round {round}" for round in rates]


def test_exploration_of_several_seeds_has_no_interval_of_independent_episodes(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    single, both = (group_runs(read_runs(runs[:count]))[0].explored("west")[1] for count in (1, 2))
    assert (both.successes, both.episodes, both.errors) == (2, 6, 2)
    assert (both.low, both.high) == (single.low, single.high)


@pytest.mark.usefixtures("sketched")
def test_a_sites_own_steps_are_told(tmp_path: Path) -> None:
    clients = [{"name": "west", "environment": "maze", "steps": 12}]
    page = Page(rendered(made_run(tmp_path / "run", clients=clients, training={"steps": 3})))
    assert any("3 steps a round (12 at west), batches of" in text for text in page.texts["td"])


@pytest.mark.usefixtures("sketched")
def test_what_went_wrong_in_a_run_is_said(tmp_path: Path) -> None:
    layout = begin(tmp_path / "run", run := config())
    finish_round(layout, run, 0, [episode("a", success=True), episode("b", success=None)])
    page = Page(rendered(tmp_path / "run"))
    notices = [text for text in page.texts["p"] + page.texts["span"] if "round" in text]
    assert any("made is not complete: 0 of 2 rounds done" in text for text in notices)
    assert any("faults took 1 held-out episode of round 0" in text for text in notices)


@pytest.mark.usefixtures("sketched")
def test_a_page_follows_a_run_until_it_is_complete(tmp_path: Path) -> None:
    layout = begin(tmp_path / "run", run := config(rounds=1))
    target = tmp_path / "page.html"
    pages: list[bool] = []
    rounds = iter([0, None, 1])

    def go_on(_: float) -> None:
        if (round := next(rounds)) is not None:
            finish_round(layout, run, round, [episode("a", success=bool(round))])

    def look(_: object) -> None:
        pages.append('<meta name="fedse-refresh"' in target.read_text())

    done = follow([tmp_path / "run"], target, on_page=look, wait=go_on)
    assert done.is_complete
    assert pages == [True, True, False]  # none for the look at which nothing was new


def test_following_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no folder"):
        follow([tmp_path / "nothing"], tmp_path / "page.html", on_page=lambda _: None)


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", read_study([made_run(tmp_path / "run")]), figures=tmp_path / "figures")
    svg = (tmp_path / "figures" / "success-maze.svg").read_text()
    assert "var(--" not in svg
    assert "maze: held-out success" in svg
    assert "fill: #ffffff" in svg  # its own ground: dark text is not to lie on a dark page
    assert (tmp_path / "figures" / "success-maze.png").read_bytes().startswith(b"\x89PNG")
