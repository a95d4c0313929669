"""The renderers over chat templates of the forms in use: see :mod:`helpers.chat_families`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from fedse.agent import renderer_for
from fedse.agent.renderers.base import fill_in
from fedse.types import Message, Source, StopReason, Task, Trajectory, Turn
from helpers.chat_families import FAMILIES, Family

RULES = "Walk to the goal."
TURNS = (
    ("You see a wall.", "Thought: a\nAction: go 1"),
    ("A  door!", "Thought: é\nAction: open"),
    ("End?", "Action: stop"),
)
CHAT = Trajectory(
    task=Task("maze", "1"),
    source=Source.EXPERT,
    instruction=RULES,
    turns=tuple(Turn(observation, response, "go", 0.0) for observation, response in TURNS),
    final_observation="Success",
    success=True,
    reward=1.0,
    stop=StopReason.DONE,
)

each = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def stream(family: Family) -> str:
    """What a chat of three turns is to be as text."""
    (first, reply), *rest = TURNS
    text = family.opening.format(rules=RULES, first=first) + reply + family.end
    return text + "".join(family.between.format(next=seen) + said + family.end for seen, said in rest)


@each
def test_a_chat_is_the_familys_text(family: Family) -> None:
    tokenizer = family.tokenizer()
    assert tokenizer.decode(renderer_for(tokenizer).render(CHAT).ids) == stream(family)


@each
def test_a_rollout_builds_the_ids_of_a_demonstration_piece_by_piece(family: Family) -> None:
    renderer = renderer_for(family.tokenizer())
    ids: list[int] = []
    for seen, said in TURNS:
        ids += renderer.continuation(seen) if ids else renderer.opening(RULES, seen)
        ids += renderer.reply(said)
    record = renderer.render(CHAT)
    assert tuple(ids) == record.ids
    spoken = [renderer.decode(record.ids[start:end]) for start, end in record.spans]
    assert spoken == [said for _, said in TURNS]


@each
def test_a_turn_ends_with_the_familys_token(family: Family) -> None:
    tokenizer = family.tokenizer()
    renderer = renderer_for(tokenizer)
    assert tokenizer.convert_ids_to_tokens(renderer.end_token) == family.end
    assert renderer.stop_tokens == {renderer.end_token, tokenizer.eos_token_id}


@each
def test_the_template_makes_the_same_of_the_whole_chat(family: Family) -> None:
    tokenizer = family.tokenizer()
    renderer = renderer_for(tokenizer)
    messages = [Message("system", RULES)]
    for seen, said in TURNS:
        messages += [Message("user", seen), Message("assistant", said)]
    for end in (3, 5, 7):
        whole = fill_in(tokenizer, renderer.conversation(messages[:end]), **renderer.template_options())
        assert whole.replace(*family.dropped).startswith(stream_of(family, (end - 1) // 2).replace(*family.dropped))


def stream_of(family: Family, turns: int) -> str:
    """The beginning of :func:`stream`, up to the end of a turn."""
    return family.end.join(stream(family).split(family.end)[: _ends(family, turns)]) + family.end


def _ends(family: Family, turns: int) -> int:
    """How many times the token that ends a turn stands in a chat of so many turns."""
    first = family.opening.count(family.end)
    return first + 1 + (turns - 1) * (family.between.count(family.end) + 1)


#: Our form → the same family's own text, in the package that the benchmarks compare with.
PUBLISHED = {
    "qwen2_5": "qwen2.5",
    "qwen3": "qwen3",
    "qwen3_instruct_2507": "qwen2.5",
    "gemma": "gemma3",
    "gemma3": "gemma3",
    "llama3_2": "llama3",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_template_makes_the_same_stream_as_our_form_of_it(name: str) -> None:
    package = importlib.util.find_spec("trl")
    if package is None or package.origin is None:
        pytest.skip("trl is not installed, whose folder has the templates: make bench")
    template = (Path(package.origin).parent / "chat_templates" / f"{name}.jinja").read_text()
    family = FAMILIES[PUBLISHED[name]]
    tokenizer: PreTrainedTokenizerFast = family.tokenizer(template)
    renderer = renderer_for(tokenizer)
    assert tokenizer.decode(renderer.render(CHAT).ids) == stream(family)
    assert tokenizer.convert_ids_to_tokens(renderer.end_token) == family.end
