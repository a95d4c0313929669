"""Trifles of spelling lose no game, and nothing else is forgiven; in parity the original's answers stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.environments import Environment, make
from fedse.environments.forgiving import meant, plain
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.types import Source, Task, Trajectory

PAGES = Path(__file__).parents[2] / "docs" / "environments"
#: Environment → a task, and actions to the situation that its page shows examples of.
SITUATIONS = {
    "babyai": ("OneRoomS20/45", ["turn right", "turn right"]),
    "maze": ("double_t/15", []),
    "textcraft": ("stick", ["get 1 oak logs", "craft 4 oak planks using 1 oak logs", "get 2 flint"]),
    "webshop": ("1k/1476", ["search[office chairs metal legs memory foam grey]", "click[B06N2P]"]),
    "wordle": ("5", []),
}
NAMES = sorted(SITUATIONS)
#: Kind of a trifle → how it makes a reply of an action.
TRIFLES: dict[str, Callable[[str], str]] = {
    "upper case": lambda action: f"Action: {action.upper()}",
    "a full stop": lambda action: f"Action: {action}.",
    "quotes": lambda action: f'Action: "{action}"',
    "backticks": lambda action: f"Action: `{action}`",
    "bold": lambda action: f"**Action:** **{action}**",
    "doubled spaces": lambda action: f"Action:  {action.replace(' ', '  ')}",
    "an article": lambda action: f"Action: the {action}",
    "no label": lambda action: action,
    "more after it": lambda action: f"Thought: I act.\nAction: {action}\nThought: Then I go on.\nAction: no",
    "everything": lambda action: f'action: "The {action.upper().replace(" ", "  ")}!"\n\nThought: Done.',
}


def played(environment: Environment, task: Task, trifle: str | None) -> Trajectory:
    """The expert's episode, with its actions spelt exactly or with a trifle."""
    request = EpisodeRequest(task, 0)
    episode = Episode(environment, request, instruction="", turns=environment.spec.max_turns)
    episode.start()
    expert = environment.expert(0)
    while episode.stop is None:
        thought, action = expert.act(episode.observation)
        episode.reply(TRIFLES[trifle](action) if trifle else f"Thought: {thought}\nAction: {action}")
    return episode.trajectory(source=Source.EXPERT)


@pytest.mark.parametrize("trifle", TRIFLES)
@pytest.mark.parametrize("name", NAMES)
def test_an_episode_full_of_trifles_goes_as_the_exact_one(name: str, trifle: str) -> None:
    environment = make(name)
    for task in environment.tasks("train")[:3]:
        exact, loose = played(environment, task, None), played(environment, task, trifle)
        assert exact.success
        assert (loose.success, loose.reward, loose.stop) == (exact.success, exact.reward, exact.stop)
        assert [turn.observation for turn in loose.turns] == [turn.observation for turn in exact.turns]
        # What was recorded gives the same episode again.
        environment.reset(task)
        assert [environment.step(turn.action).reward for turn in loose.turns][-1] == exact.reward


@pytest.mark.parametrize("name", NAMES)
def test_in_parity_the_original_answers_stand(name: str) -> None:
    environment = make(name, parity=True)
    task, actions = SITUATIONS[name]
    before = environment.reset(Task(name, task))
    for action in actions:
        before = environment.step(action).observation
    for action in ("The Move Right.", '"turn left"', "Get 1 flint", "Search[chair]", "TRICK"):
        answer = environment.step(action).observation
        assert {
            "babyai": answer.startswith("The action is not recognized. Please check valid actions.\n"),
            "maze": answer == before,
            "textcraft": answer == f"Could not execute {action}",
            "webshop": answer == before,
            "wordle": answer == "invalid word",
        }[name]


def examples() -> list[tuple[str, str, str]]:
    """(environment, what is written, what the page says of it) of the tables of spellings."""
    found = []
    for name in NAMES:
        table = (PAGES / f"{name}.md").read_text().split("## Spelling", 1)[1].split("\n## ", 1)[0]
        rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", table, re.MULTILINE)
        assert len(rows) >= 6
        found += [(name, written, said) for written, said in rows]
    return found


@pytest.mark.parametrize(("name", "written", "said"), examples())
def test_what_a_page_says_of_a_spelling_is_so(name: str, written: str, said: str) -> None:
    def answer(action: str) -> tuple[str, float, bool]:
        environment = make(name)
        task, actions = SITUATIONS[name]
        environment.reset(Task(name, task))
        for earlier in actions:
            environment.step(earlier)
        result = environment.step(action)
        return result.observation, result.reward, result.done

    if exact := re.fullmatch(r"`(.+)`", said):
        assert answer(written) == answer(exact[1])
        assert answer(written) != answer("nonsense")
    else:
        observation, reward, done = answer(written)
        assert (observation[: len(said)], reward, done) == (said, 0.0, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Move   RIGHT. ", "move right"),
        ("“go to the red ball 1”", "go to red ball 1"),
        ("**turn_left**!", "turn left"),
        ("< Prev", "prev"),
        ("get a flint", "get flint"),
        ("a b o u t", "a b o u t"),
        ("vitamin a", "vitamin a"),
        ("-5 °C", "-5 °c"),
        ("1.5 oz", "1.5 oz"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_plain_spelling(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.text())
def test_plain_spelling_is_plain(text: str) -> None:
    assert "  " not in plain(text)
    assert plain(text) == plain(text).strip()


def test_a_text_that_could_mean_two_means_none() -> None:
    known = ["6 inch", "6-inch", '12"', "12'"]
    assert meant("6 Inch.", known) == "6 inch"
    assert meant("12", known) is None
    assert meant("12'", known) == "12'"
    assert meant("", ["+"]) is None
    assert meant("seven", known) is None
