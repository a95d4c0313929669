"""The corpus that the nano model is made from."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from nano.corpus import batches, encode, episodes, pieces, tasks
from nano.players import PLAYERS, THOUGHTS
from nano.reading import TASKS
from nano.tokenizer import train_tokenizer, with_chat_template
from nano.words import Lexicon, words_of

from fedse.agent import renderer_for
from fedse.agent.parsing import parse_response

WORDS = ("red", "blue", "iron", "log", "stone", "lamp", "river")


def lexicon(seed: int = 0) -> Lexicon:
    return Lexicon(WORDS, random.Random(seed))


@pytest.fixture(scope="module")
def tokenizer():
    drawn = itertools.islice(tasks(lexicon(), (3, 8)), 200)
    return train_tokenizer([text for made in drawn for _, text in made], 400)


@pytest.mark.parametrize("make", dict.fromkeys(TASKS), ids=lambda make: make.__name__)
def test_every_answer_of_a_reading_task_is_a_thought_and_an_action(make):
    for seed in range(20):
        roles = make(lexicon(seed), 5)
        assert [role for role, _ in roles[:2]] == ["system", "user"]
        answers = [text for role, text in roles if role == "assistant"]
        assert answers
        for answer in answers:
            thought, action = answer.split("\nAction: ")
            assert thought.startswith("Thought: ")
            assert action


def test_a_lookup_answers_with_what_stands_behind_the_name():
    make = next(make for make in TASKS if make.__name__ == "lookup")
    for seed in range(30):
        conversation = make(lexicon(seed), 5)
        page = conversation[1][1]
        for role, text in conversation[2:]:
            if role == "assistant" and text.startswith("Thought: The goal is "):
                name, content = text.removeprefix("Thought: The goal is ").split("\n")[0].rstrip(".").split(". It ")
                assert any(line.endswith(f"{name} {content}") for line in page.splitlines())


@pytest.mark.parametrize("environment", sorted(PLAYERS))
def test_players_say_nothing_about_their_task_and_keep_the_form(environment):
    rng = random.Random(0)
    for conversation in itertools.islice(episodes(environment, rng, PLAYERS), 5):
        for role, text in conversation:
            if role == "assistant":
                parsed = parse_response(text, "single")
                assert parsed.thought in THOUGHTS


def test_a_document_has_the_tokens_that_the_agent_sees(tokenizer):
    conversation = next(tasks(lexicon(3), (3, 5)))
    [(ids, said)] = encode(tokenizer, [conversation])
    renderer = renderer_for(with_chat_template(tokenizer))
    (_, system), (_, user), (_, first), *rest = conversation
    expected = renderer.opening(system, user) + renderer.reply(first)
    for (_, page), (_, answer) in zip(rest[::2], rest[1::2], strict=True):
        expected += renderer.continuation(page) + renderer.reply(answer)
    assert ids == expected
    answers = [text for role, text in conversation if role == "assistant"]
    assert sum(said) == sum(len(renderer.reply(answer)) for answer in answers)


def test_the_loss_is_on_what_the_assistant_says():
    conversation = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    assert [text for text, spoken in pieces(conversation) if spoken] == ["a<|im_end|>", "b<|im_end|>"]


def test_rows_hold_whole_documents_and_every_document_once():
    documents = [([number] * length, [True] * length) for number, length in enumerate((5, 3, 9, 2, 4) * 40, start=1)]
    made = batches(itertools.chain(documents, (([0], [False]) for _ in itertools.count())), 4, 10)
    seen: dict[int, int] = {}
    for ids, said in itertools.islice(made, 12):
        for row, spoken in zip(ids, said, strict=True):
            values, counts = np.unique(row[row > 0], return_counts=True)
            seen |= dict(zip(values.tolist(), counts.tolist(), strict=True))
            assert (spoken == (row > 0)).all()
    assert seen
    for number, count in seen.items():
        assert count == len(documents[number - 1][0])


def test_names_are_different_even_of_few_words():
    few = Lexicon(("red",), random.Random(0))
    for count in range(1, 9):
        assert len(set(few.names(count, alike=True))) == count


def test_words_leave_out_codes():
    assert words_of(["Buy B0XYZ1 in red, 3 pieces"]) == ["in", "pieces", "red"]
