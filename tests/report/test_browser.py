"""The page in a real browser: headless Chromium, driven as a reader would."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedse.report import read_study, write_page
from helpers.report_runs import made_suite

pytest.importorskip("playwright", reason="playwright is not installed (pip install playwright)")
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("FEDSE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}, or name it in FEDSE_CHROMIUM")
    # Without its sandbox, which a container has no rights for; the only page is ours.
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--disable-quic"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=options)
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_page(folder / "page.html", read_study([made_suite(folder / "suite")]))
    return folder / "page.html"


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def opened(browser: Browser, file: Path, faults: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, wide and light or as the test asks; no test may leave a fault in the browser's console."""
    options: dict[str, Any] = {"viewport": WIDE, "color_scheme": "light"} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto(file.as_uri())
    page.locator("#browser").wait_for()
    yield page
    context.close()
    assert faults == []


def chosen(page: Page) -> str:
    return page.locator("#tasks [aria-selected=true]").inner_text()


def test_all_figures_are_drawn(opened: Page) -> None:
    boxes = opened.locator("figure.chart svg").evaluate_all(
        "found => found.map(svg => svg.getBoundingClientRect().height)"
    )
    assert len(boxes) == opened.locator("figure.chart").count() > 20
    assert min(boxes) > 60
    for part in ("results", "ablations", "exchange", "learning", "time"):
        assert opened.locator(f"#{part} figure svg").count() > 0


def test_episodes_begin_with_the_reference(opened: Page) -> None:
    expect(opened.locator("#by-method")).to_have_value("Together")
    expect(opened.locator("#count")).to_have_text("48 of 168 tasks")  # two environments, two seeds, 12 tasks
    expect(opened.locator("#before h3")).to_have_text("Before (round 0)")
    expect(opened.locator("#after .verdict")).to_have_text("success")
    assert opened.locator("#after .strip span").count() == 2


def test_the_browser_of_episodes_works_by_mouse(opened: Page) -> None:
    opened.locator("#tasks li").nth(3).click()
    assert chosen(opened).split() == ["▲", "task/3", "wordle", "·", "Together", "·", "seed", "0"]
    expect(opened.locator("#after .observation").first).to_contain_text("wordle 3, round 2")
    expect(opened.locator("#before .observation").first).to_contain_text("wordle 3, round 0")
    opened.get_by_role("button", name="Next").click()
    assert "task/4" in chosen(opened)
    opened.locator("#by-environment").select_option("maze")
    assert "maze" in chosen(opened)
    opened.locator("#by-seed").select_option("0")
    opened.locator("#by-change").select_option("failed")
    expect(opened.locator("#tasks li")).to_have_count(1)
    assert "task/11" in chosen(opened)
    opened.locator("#by-method").select_option("Alone")
    expect(opened.locator("#tasks li")).to_have_count(8)
    opened.get_by_label("Mark what carries loss").uncheck()
    colours = opened.locator("#after .response").evaluate_all(
        "found => found.map(it => getComputedStyle(it).backgroundColor)"
    )
    assert set(colours) == {"rgba(0, 0, 0, 0)"}


def test_the_browser_of_episodes_works_by_keyboard(opened: Page) -> None:
    press = opened.keyboard.press
    focused = "document.activeElement.id"
    opened.locator("#tasks").focus()
    assert opened.locator("#tasks").evaluate("it => getComputedStyle(it).outlineStyle") != "none"
    for key, task in [
        ("ArrowDown", "task/1"),
        ("j", "task/2"),
        ("k", "task/1"),
        ("End", "task/11"),
        ("Home", "task/0"),
    ]:
        press(key)
        assert task in chosen(opened)
        assert opened.locator("#tasks").get_attribute("aria-activedescendant") == opened.locator(
            "#tasks [aria-selected=true]"
        ).get_attribute("id")
    press("Enter")
    assert opened.evaluate(focused) == "before"
    press("ArrowRight")
    assert opened.evaluate(focused) == "after"
    press("ArrowLeft")
    press("j")
    assert "task/1" in chosen(opened)
    press("Escape")
    assert opened.evaluate(focused) == "tasks"
    press("/")
    assert opened.evaluate(focused) == "by-text"
    opened.keyboard.type("maze 7, round 2")
    expect(opened.locator("#tasks li")).to_have_count(2)  # one for each seed
    opened.keyboard.type("jk")  # letters, while one types
    expect(opened.locator("#tasks li")).to_have_count(0)
    expect(opened.locator("#after .facts")).to_have_text("Not played.")
    press("Enter")
    assert opened.evaluate(focused) == "tasks"


def test_keys_do_nothing_while_the_focus_is_elsewhere(opened: Page) -> None:
    opened.evaluate("document.activeElement.blur()")
    for key in ("j", "/"):
        opened.keyboard.press(key)
    assert "task/0" in chosen(opened)
    assert opened.evaluate("document.activeElement === document.body")
    opened.locator("nav a[href='#episodes']").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")  # on into the section
    assert opened.evaluate("document.getElementById('browser').contains(document.activeElement)")
    opened.locator("#tasks").focus()
    opened.keyboard.press("j")
    assert "task/1" in chosen(opened)
    expect(opened.locator(".keys")).to_contain_text("While the focus is in this part")


def test_the_focus_is_never_lost(opened: Page) -> None:
    press = opened.keyboard.press
    focused = "document.activeElement.id"
    opened.locator("#tasks").focus()
    press("End")
    press("ArrowUp")
    opened.locator("#next").focus()
    press("Enter")  # the last step: the button goes out of use
    assert opened.evaluate(focused) == "tasks"
    inside = opened.locator("#after summary").first
    inside.focus()
    press("k")
    assert opened.evaluate(focused) == "after", "the episode that had the focus has gone"
    inside.focus()
    press("ArrowLeft")
    assert opened.evaluate(focused) == "before"
    inside.focus()
    press("Escape")
    assert opened.evaluate(focused) == "tasks"


def test_the_chosen_episode_stays_when_a_page_loads_itself_anew(opened: Page) -> None:
    opened.locator("#by-environment").select_option("maze")
    opened.locator("#tasks li").nth(5).click()
    before = chosen(opened)
    opened.reload()
    opened.locator("#browser").wait_for()
    assert chosen(opened) == before


@pytest.mark.parametrize(
    "opened", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True, ids=["light", "dark"]
)
def test_both_colour_schemes_are_there_and_can_be_exchanged(opened: Page) -> None:
    brightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"
    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    is_dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    seen = opened.evaluate(brightness), opened.evaluate(ink)
    assert (seen[0] < 60) == is_dark
    expect(opened.locator("#theme")).to_have_text("Light" if is_dark else "Dark")
    opened.locator("#theme").click()
    expect(opened.locator("#theme")).to_have_text("Dark" if is_dark else "Light")
    assert (opened.evaluate(brightness) < 60) != is_dark
    assert opened.evaluate(ink) != seen[1]
    opened.reload()
    assert (opened.evaluate(brightness) < 60) != is_dark


@pytest.mark.parametrize("opened", [{"viewport": WIDE}, {"viewport": PHONE}], indirect=True, ids=["wide", "phone"])
def test_a_jump_shows_the_heading_below_the_navigation(opened: Page) -> None:
    for link in opened.locator("nav a").all():
        link.click()
        heading = opened.locator(f"{link.get_attribute('href')}-heading").bounding_box()
        bar = opened.locator("nav").bounding_box()
        assert heading is not None
        assert bar is not None
        assert heading["y"] >= bar["y"] + bar["height"]


def test_a_page_that_was_made_dark_is_printed_on_white(opened: Page) -> None:
    opened.locator("#theme").click()
    opened.emulate_media(media="print")
    ink = "Math.max(...getComputedStyle(document.body).color.match(/\\d+/g).slice(0, 3).map(Number))"
    assert opened.evaluate(ink) < 60


def test_the_button_that_pauses_says_only_what_it_will_do(browser: Browser, file: Path, tmp_path: Path) -> None:
    live = tmp_path / "live.html"
    write_page(live, read_study([file.parent / "suite"]), refresh=600)
    page = browser.new_page()
    page.goto(live.as_uri())
    button = page.locator("#pause")
    expect(button).to_have_text("Pause")
    button.click()
    expect(button).to_have_text("Resume")
    assert button.get_attribute("aria-pressed") is None
    page.close()


@pytest.mark.parametrize("opened", [{"viewport": WIDE}, {"viewport": PHONE}], indirect=True, ids=["wide", "phone"])
def test_nothing_is_wider_than_the_screen(opened: Page) -> None:
    for details in opened.locator("details").all():
        details.evaluate("it => { it.open = true; }")
    width = opened.evaluate("innerWidth")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.evaluate("scrollTo(500, 0)")
    assert opened.evaluate("scrollX") == 0


@pytest.mark.parametrize("opened", [{"viewport": PHONE, "has_touch": True}], indirect=True, ids=["phone"])
def test_on_a_phone_episodes_lie_beside_each_other_in_a_box_of_their_own(opened: Page) -> None:
    opened.locator("#tasks li").nth(2).tap()
    assert "task/2" in chosen(opened)
    before, after = (opened.locator(name).bounding_box() for name in ("#before", "#after"))
    assert before is not None
    assert after is not None
    assert before["y"] == after["y"]
    assert before["width"] > 300
    expect(opened.locator("#after")).not_to_be_in_viewport(ratio=0.3)
    opened.locator("#before").focus()
    opened.keyboard.press("ArrowRight")
    expect(opened.locator("#after")).to_be_in_viewport(ratio=0.3)
