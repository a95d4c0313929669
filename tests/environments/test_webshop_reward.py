"""A purchase is worth what the original says, and options count strictly unless its ways are asked for."""

from __future__ import annotations

import gzip
import json
import types

import pytest

from fedse.environments.agentgym.replay import replay_file
from fedse.environments.webshop.nouns import lexicon_nouns, noun_extractor
from fedse.environments.webshop.products import Goal, Product
from fedse.environments.webshop.reward import COLOURS, Score, first_colour, score, similarity
from fedse.errors import EnvironmentFault, UnknownNameError
from helpers.recordings import recording
from helpers.webshop_goods import goal, product

ALL = {"color": "red", "size": "small"}


def judged(bought: Product, chosen: dict[str, str], wish: Goal, *, parity: bool = False) -> Score:
    return score(bought, chosen, wish, nouns=lexicon_nouns, parity=parity)


def test_an_exact_purchase_is_worth_one_and_each_part_its_share() -> None:
    assert judged(product(), ALL, goal()) == Score(1.0, 1.0, True, True, 1.0, 1.0, 0.25, 1.0, 0.5, True, 0.25)
    assert judged(product(), {}, goal()).reward == 0.5
    assert judged(product(), {"color": "red"}, goal()).reward == 0.75
    assert judged(product(), ALL, goal(attributes=("silk lining", "wool lining"))).reward == 0.8
    assert judged(product(price=30.0), ALL, goal()).r_price is True
    assert judged(product(price=30.01), ALL, goal()).reward == 0.75


def test_a_goal_without_options_has_no_share_for_them() -> None:
    parts = judged(product(), {}, goal(options={}))
    assert (parts.r_option, parts.w_option, parts.w_att, parts.w_price) == (None, None, 0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"title": "Harbor Cap 0"}, 1.0),
        ({"title": "Meadow Mug", "query": "mugs", "breadcrumb": "Kitchen › Mugs"}, 0.0),
        ({"title": "Meadow Mug"}, 0.0),
        ({"title": "Winter Cap", "query": "mugs", "breadcrumb": "x"}, 1.0),
        ({"title": "Cap A B C", "query": "mugs", "breadcrumb": "Clothing › Mugs"}, 1.0),
    ],
)
def test_another_kind_of_product_counts_less(changes: dict[str, str], expected: float) -> None:
    assert judged(product(**changes), ALL, goal()).r_type == expected


def test_few_common_nouns_count_half_or_a_tenth_unless_query_or_place_agree() -> None:
    long_name = product(title="Cap One Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve")
    wish = goal(product=long_name)
    other = {"query": "mugs", "breadcrumb": "x"}
    assert judged(product(title="Cap", **other), ALL, wish).r_type == 0.1
    wish = goal(product=product(title="Cap One Two Three Four Five"))
    assert judged(product(title="Cap", **other), ALL, wish).r_type == 0.5
    assert judged(product(title="Cap", query="caps", breadcrumb="x"), ALL, wish).r_type == 1.0
    assert judged(product(title="Cap", query="mugs", breadcrumb=" Hats › Clothing"), ALL, wish).r_type == 1.0


def test_a_goal_without_nouns_scores_a_fifth_for_its_title() -> None:
    assert judged(product(), ALL, goal(product=product(title="of the"))).title_score == 0.2


def test_attributes_are_found_by_likeness_in_the_list_or_by_the_letter_in_the_texts() -> None:
    for attribute, found in [("lining wool", 1), ("wool  lining!", 1), ("wool", 1), ("ships today", 1), ("woollen", 0)]:
        assert judged(product(), ALL, goal(attributes=(attribute,))).r_att == found, attribute
    assert judged(product(attributes=()), ALL, goal(attributes=("for winter",))).r_att == 1


def test_options_count_only_if_the_wanted_value_was_chosen() -> None:
    wish = goal(options={"size": "x-large", "color": "navy blue"})
    chosen = {"size": "large", "color": "dark blue"}
    assert judged(product(), chosen, wish).r_option == 0.0
    assert judged(product(), chosen, wish, parity=True).r_option == 1.0
    assert judged(product(), {"size": "x-large", "colour": "navy blue"}, wish).r_option == 0.5
    exact = {"item shape": "rectangular"}
    assert judged(product(), exact, goal(options=exact)).r_option == 1.0
    assert judged(product(), exact, goal(options=exact), parity=True).r_option == 0.0


def test_goals_of_people_name_values_only() -> None:
    assert judged(product(), ALL, goal(options=("small", "blue"))).r_option == 0.5
    assert judged(product(), {"color": "light blue"}, goal(options=("navy blue",)), parity=True).r_option == 1.0


def test_colours_are_found_alphabetically_even_inside_words() -> None:
    assert tuple(sorted(COLOURS)) == COLOURS
    assert (first_colour("white and black"), first_colour("titanium"), first_colour("plaid")) == ("black", "tan", None)


def test_similarity_drops_the_letters_that_the_original_drops() -> None:
    assert similarity("café", "caf") == 100
    assert similarity("large", "('size', 'x-large')") == 100
    assert similarity("", "x") == 0


# Nouns


def test_every_word_that_may_be_a_name_is_a_noun() -> None:
    assert lexicon_nouns("Harbor Men's T-Shirt with Long Sleeve for the Office, 2 Pack of 3") == (
        *("harbor", "men", "t", "shirt", "sleeve", "office", "pack"),
    )
    assert lexicon_nouns("Gold Plated Wrapped Cap, Individually Insulated") == ("gold", "cap")


def test_an_installed_spacy_pipeline_can_find_the_nouns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str):
        def pipeline(text: str) -> list[types.SimpleNamespace]:
            asked.append(text)
            return [types.SimpleNamespace(text=word, pos_="NOUN" if word.isupper() else "ADJ") for word in text.split()]

        return pipeline

    monkeypatch.setitem(__import__("sys").modules, "spacy", types.SimpleNamespace(load=load))
    nouns = noun_extractor("test_pipeline")
    assert nouns("warm CAP wide HAT") == nouns("warm CAP wide HAT") == ("cap", "hat")
    assert asked == ["warm CAP wide HAT"]


# Recordings


@pytest.mark.parametrize(
    ("name", "env", "episodes", "steps"),
    [("webshop_env", "webshop", 83, 908), ("webshop_reward", "webshop_reward", 434, 434)],
)
def test_recordings_of_the_original_are_reproduced(name: str, env: str, episodes: int, steps: int) -> None:
    report = replay_file(recording(name))
    assert list(map(str, report.differences)) == []
    assert (report.env, report.episodes, report.steps) == (env, episodes, steps)


def test_one_altered_reward_is_one_difference(tmp_path) -> None:
    lines = gzip.decompress(recording("webshop_reward").read_bytes()).decode().splitlines()
    record = json.loads(lines[5])
    record["info"]["r_att"] = 0.123
    altered = tmp_path / "altered.jsonl"
    altered.write_text("\n".join([*lines[:5], json.dumps(record), *lines[6:]]))
    [difference] = replay_file(altered).differences
    assert (difference.line, difference.step, difference.field) == (6, 0, "info")


def test_a_part_that_is_not_recorded_is_named(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"env": "webshop_price"}')
    with pytest.raises(UnknownNameError, match="no recorded part of webshop 'price'"):
        replay_file(path)
    path.write_text('{"env": "maze_price"}')
    with pytest.raises(EnvironmentFault, match="no part 'price'"):
        replay_file(path)


def test_our_nouns_give_the_recorded_kinds_of_product() -> None:
    lines = gzip.decompress(recording("webshop_reward").read_bytes()).decode().splitlines()
    names: dict[str, set[str]] = {}
    for record in map(json.loads, lines):
        names[record["product"]["Title"]] = set(record["product_nouns"])
        names[record["goal"]["name"]] = set(record["goal_nouns"])
    agreed = sum(set(lexicon_nouns(name)) == nouns for name, nouns in names.items())
    assert agreed / len(names) > 0.9
