from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.agent.parsing import NO_ACTION, ONE_ACTION_ONLY, ParsedResponse, format_response, parse_response
from fedse.environments.base import ActionRule

RULES: dict[str, ActionRule] = {
    "maze": "first",
    "wordle": "first",
    "textcraft": "single",
    "babyai": "single",
    "webshop": "bracket",
}


def recorded_cases() -> list[dict[str, object]]:
    folder = os.environ.get("FEDSE_RECORDINGS")
    if not folder:
        pytest.skip("FEDSE_RECORDINGS is not set: no recordings of the original clients to compare with")
    with gzip.open(Path(folder) / "client_parse.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def test_parity_mode_reads_every_recorded_text_as_the_original_clients_do() -> None:
    for case in recorded_cases():
        parsed = parse_response(str(case["text"]), RULES[str(case["env"])], parity=True)
        local = case["local"]
        if isinstance(local, dict):
            assert parsed.error == local["state"], case
        else:
            posted = case["posted"]
            assert isinstance(posted, list)
            assert (parsed.error, parsed.action) == (None, posted[0]["action"]), case


@pytest.mark.parametrize(("rule", "action"), [("first", "move up"), ("single", "get 2 log"), ("bracket", "click[x]")])
def test_a_closing_tag_no_longer_eats_or_leaves_letters(rule: ActionRule, action: str) -> None:
    assert parse_response(f"Thought: x\nAction: {action}</s>", rule).action == action


@pytest.mark.parametrize("rule", ["first", "single", "bracket"])
def test_formatted_responses_parse_back(rule: ActionRule) -> None:
    action = "click[buy now]" if rule == "bracket" else "move up"
    parsed = parse_response(format_response("The goal is below.", action), rule)
    assert (parsed.thought, parsed.action, parsed.error) == ("The goal is below.", action, None)


def test_the_single_rule_of_the_original_refuses_two_actions() -> None:
    assert parse_response("Action: a\nAction: b", "single", parity=True).error == ONE_ACTION_ONLY


@pytest.mark.parametrize("rule", ["first", "single", "bracket"])
@pytest.mark.parametrize(
    "text",
    [
        "Thought: It is there.\nAction: go on\nThought: Then I am there.\nAction: go back",
        "Thought: It is there.\nAction: go on\nObservation: You are there.",
        "Thought: It is there. Action: go on Thought: Then I am there.",
        "Thought: It is there.\nAction: Action: go on",
        "Thought: It is there.\n\nAction:\n\ngo on\n",
        "Thought: It is there.\nAction:\n```text\ngo on\n```",
        "**Thought:** It is there.\n**Action:** go on",
        "thought: It is there.\naction: go on",
        "THOUGHT: It is there.\nACTION : go on",
        "It is there.\nAction: go on</s>",
        "Thought: It is there.\ngo on",
    ],
)
def test_the_first_line_after_the_label_is_the_action_however_the_labels_are_set(text: str, rule: ActionRule) -> None:
    assert parse_response(text, rule) == ParsedResponse("It is there.", "go on")


@pytest.mark.parametrize("rule", ["first", "single", "bracket"])
@pytest.mark.parametrize("text", ["go on", "Action: go on", "action: go on", "go on</s>", "\ngo on\n"])
def test_a_reply_without_a_thought_counts(text: str, rule: ActionRule) -> None:
    assert parse_response(text, rule) == ParsedResponse("", "go on")


@pytest.mark.parametrize("rule", ["first", "single", "bracket"])
@pytest.mark.parametrize("text", ["Thought: I go on.", "Action:", "Action:\nThought: no", "Thought:\n\n"])
def test_where_nothing_is_the_action_the_agent_is_told_so(text: str, rule: ActionRule) -> None:
    assert parse_response(text, rule).error == NO_ACTION


def test_the_single_rule_keeps_what_names_are_written_with() -> None:
    assert parse_response("Action: get  2 minecraft:oak_logs, (please)!", "single").action == (
        "get 2 minecraft:oak_logs, please"
    )


@given(text=st.text(), rule=st.sampled_from(["first", "single", "bracket"]), parity=st.booleans())
def test_any_text_parses(text: str, rule: ActionRule, parity: bool) -> None:
    parsed = parse_response(text, rule, parity=parity)
    assert parsed.action == parsed.action.strip()
