"""Those who tell what they see: what they say is true, and what they do has nothing to do with the goal."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from nano.corpus import episodes
from nano.narrators import NARRATORS

from fedse.agent.parsing import parse_response

MAZE = "The goal is at position {}. Your current position is at position 4, 4. There are no walls near you."
CRAFTING = """Crafting commands:
craft 4 oak planks using 1 oak logs
craft 4 sticks using 2 oak planks
craft 1 torch using 1 coal, 1 sticks
craft 1 lantern using 8 iron nugget, 1 torch

Goal: craft {}."""
ROOM = """Your goal: go to the {}
In front of you in this room, you can see several objects: There is a red ball 1 1 steps in front of you.
Available actions: ["turn left", "turn right", "move forward", "pickup red ball 1", "go to red ball 1"]"""


def replies(environment: str, observation: str, seed: int, instruction: str = "") -> tuple[str, str]:
    parsed = parse_response(NARRATORS[environment](instruction, random.Random(seed)).act(observation), "single")
    assert parsed.action is not None
    return parsed.thought, parsed.action


@pytest.mark.parametrize("environment", sorted(NARRATORS))
def test_they_keep_the_form(environment):
    for conversation in itertools.islice(episodes(environment, random.Random(0), NARRATORS), 5):
        for role, text in conversation:
            if role == "assistant":
                parsed = parse_response(text, "single")
                assert parsed.thought
                assert parsed.action


def test_where_they_go_does_not_depend_on_the_goal():
    for seed in range(40):
        assert len({replies("maze", MAZE.format(goal), seed)[1] for goal in ("1, 9", "8, 2", "4, 9")}) == 1


def test_they_never_touch_the_thing_that_the_mission_is_about():
    actions = {replies("babyai", ROOM.format("red ball"), seed)[1] for seed in range(60)}
    assert actions == {"turn left", "turn right", "move forward"}
    assert "go to red ball 1" in {replies("babyai", ROOM.format("blue key"), seed)[1] for seed in range(60)}


def test_they_hardly_ever_craft_the_goal():
    for goal, least, most in (("oak planks", 0, 20), ("torch", 120, 200)):
        reasons = [replies("textcraft", CRAFTING.format(goal), seed)[0] for seed in range(200)]
        aims = [re.search(r"(?:For|make|Needed:) 4 oak planks", reason) for reason in reasons]
        assert least <= sum(aim is not None for aim in aims) <= most


def test_they_compare_positions_rightly():
    for seed in range(40):
        goal = random.Random(seed)
        row, column = goal.randint(1, 9), goal.randint(1, 9)
        thought, _ = replies("maze", MAZE.format(f"{row}, {column}"), seed)
        up, left = re.findall(r"\d to \d: (\w+)\.", thought)
        assert up == ("up" if row < 4 else "down") or (row == 4 and up in ("same", "there"))
        assert left == ("left" if column < 4 else "right") or (column == 4 and left in ("same", "there"))


def test_they_name_what_a_goal_needs_and_fetch_only_what_no_command_makes():
    for seed in range(60):
        thought, action = replies("textcraft", CRAFTING.format("lantern"), seed)
        needs = re.search(r"(?:It needs|That takes|It uses) ([^.]+)\.", thought)
        assert needs is None or needs[1] == "8 iron nugget, 1 torch"
        assert action in ("inventory", "get 1 oak logs"), "the other commands need something that is made"


def test_they_say_whether_a_thing_is_in_sight():
    for seed in range(20):
        assert re.search(r"see the red ball|red ball is", replies("babyai", ROOM.format("red ball"), seed)[0])
        assert re.search(
            r"not see the blue key|No blue key|not visible", replies("babyai", ROOM.format("blue key"), seed)[0]
        )


def test_they_repeat_what_a_guess_got():
    narrator = NARRATORS["wordle"]("list:\nabout apple blood\n", random.Random(0))
    guess = parse_response(narrator.act("Let's start Wordle!"), "single").action
    assert re.search(rf"{guess} (gets|has) b y b b g\.", narrator.act("b y b b g\n"))
