"""The search ranks by BM25's formula over word stems, ties in catalogue order."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from fedse.environments.webshop.search import Bm25, Overlap
from helpers.webshop_goods import product


def test_search_orders_equal_scores_as_the_catalogue_does() -> None:
    products = [product(number, title="Same Cap") for number in range(60)]
    assert Bm25(products).search("cap") == tuple(range(50))
    products[55] = replace(products[55], title="Same Cap Cap")
    assert Bm25(products).search("same cap") == (55, *range(49))


@pytest.mark.parametrize("query", ["", "the of and", "zebra", "'s", "[]"])
def test_search_finds_nothing_without_a_known_word(query: str) -> None:
    assert Bm25([product(), product(1)]).search(query) == ()


def test_search_reads_titles_descriptions_first_bullets_and_options_by_their_stems() -> None:
    filler = [product(number, title="Mug", description="", bullets=("x",), options={}) for number in range(4)]
    texts = {
        "title": product(9, title="Runner's Boots"),
        "description": product(9, description="Made for running."),
        "first bullet": product(9, bullets=("Runs far", "Walks")),
        "options": product(9, options={"style": ("runs",)}),
    }
    for place, item in texts.items():
        engine = Bm25([*filler, item])
        assert engine.search("running" if place != "title" else "runner") == (4,), place
        assert engine.search("walking") == (), place


def expected_order(query: list[str], documents: list[list[str]]) -> tuple[int, ...]:
    """BM25 (k1 0.9, b 0.4) as Lucene writes it; ties in order."""
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        total = 0.0
        for word in query:
            holding = sum(word in other for other in documents)
            rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            count = words.count(word)
            total += rarity * count / (count + 0.9 * (1 - 0.4 + 0.4 * len(words) / mean))
        scores.append(round(total, 5))
    return tuple(sorted((place for place in range(len(documents)) if scores[place]), key=lambda place: -scores[place]))


def test_the_order_follows_the_formula_of_bm25() -> None:
    rng = random.Random(5)
    words = ["red", "cap", "wool", "mug", "scarf", "blue", "hat", "glove"]
    for _ in range(40):
        documents = [rng.choices(words, k=rng.randint(2, 12)) for _ in range(12)]
        shop = Bm25([product(title=" ".join(text), description="", bullets=(), options={}) for text in documents])
        query = rng.choices(words, k=3)
        assert shop.search(" ".join(query)) == expected_order(query, documents)


def test_searching_titles_ignores_the_rest() -> None:
    shop = Bm25([product(0, title="Mug", description="a cap"), product(1, title="Cap")], titles_only=True)
    assert shop.search("cap") == (1,)


def test_overlap_counts_the_different_words_found() -> None:
    titles = ["red cap", "red red red hat", "red cap wool", "mug"]
    shop = Overlap([product(n, title=title, description="", bullets=(), options={}) for n, title in enumerate(titles)])
    assert shop.search("red caps of wool wool") == [2, 0, 1]
    assert shop.search("the zebra") == []
