"""The expert shops by what the pages say, buys right, and says why in few, true words."""

from __future__ import annotations

import functools

import pytest

from fedse.environments import make
from fedse.environments.webshop import WebShop
from fedse.environments.webshop.expert import WebShopExpert
from fedse.environments.webshop.reading import Kind, Listing, read_page, read_wish
from fedse.errors import EnvironmentFault
from fedse.types import Task
from helpers.recordings import recording
from helpers.webshop_goods import WISH, browser, product

Turn = tuple[str, str, str]


@functools.cache
def webshop() -> WebShop:
    return make("webshop")


def episode(shop: WebShop, task: Task, seed: int) -> tuple[list[Turn], float]:
    """(observation, thought, action) of every turn, and the last reward; every action is one that the page offers."""
    observation, turns = shop.reset(task), []
    clickables = shop._visit.browser.clickables
    expert = shop.expert(seed)
    for _ in range(shop.spec.max_turns):
        thought, action = expert.act(observation)
        assert action.startswith("search[") or action[6:-1].lower() in clickables
        turns.append((observation, thought, action))
        result = shop.step(action)
        observation = result.observation
        if result.done:
            return turns, result.reward
        clickables = shop._visit.browser.clickables
    return turns, 0.0


@functools.cache
def episodes() -> list[tuple[list[Turn], float]]:
    return [episode(webshop(), task, seed) for seed, task in enumerate(webshop().tasks("test"))]


def test_it_succeeds_on_held_out_tasks_in_ten_turns() -> None:
    successes = sum(reward > webshop().spec.success_above for _, reward in episodes())
    assert successes >= 0.97 * len(episodes())


def test_reading_pays() -> None:
    """The same customer, but one who takes every feature for granted."""
    successes = 0
    for seed, task in enumerate(webshop().tasks("test")):
        observation, expert = webshop().reset(task), webshop().expert(seed)
        for _ in range(10):
            expert._read.add(expert._asin)
            result = webshop().step(expert.act(observation)[1])
            observation = result.observation
            if result.done:
                successes += result.reward > 0.99
                break
    assert 0.75 * len(episodes()) < successes < 0.9 * len(episodes())


def test_thoughts_are_short() -> None:
    thoughts = [thought for turns, _ in episodes() for _, thought, _ in turns]
    assert max(len(thought.split()) for thought in thoughts) <= 20
    assert sum(len(thought.split()) for thought in thoughts) / len(thoughts) < 8


def test_thoughts_are_true_to_the_page() -> None:
    for turns, _ in episodes():
        opened, title = "", ""
        for observation, thought, action in turns:
            view = read_page(observation)
            words, target = thought.lower(), action[6:-1]
            if view.kind is Kind.START:
                assert all(part in words for part in (view.wish.product, *view.wish.attributes))
            elif view.kind is Kind.RESULTS:
                [listing] = [listing for listing in view.listings if listing.asin == target]
                assert listing.asin in thought
                assert listing.price in thought
                opened = listing.title
            elif view.kind is Kind.ITEM:
                title = view.title
                assert title == opened
                if target == "Features":
                    named = [attribute for attribute in view.wish.attributes if attribute in words]
                    untold = [attribute for attribute in view.wish.attributes if attribute not in title.lower()]
                    assert named == untold
                elif target in view.wish.options.values():
                    assert target in words
                elif target == "< Prev":
                    assert words.startswith(("it lacks", "without"))
            else:
                assert target == "< Prev"
                assert any(attribute in words for attribute in view.wish.attributes)


def test_a_purchase_without_doubts_follows_only_if_all_was_seen() -> None:
    for turns, reward in episodes():
        _, thought, action = turns[-1]
        assert action == "click[Buy Now]"
        if thought in ("All fits. Buy.", "Everything is right."):
            # What can still be wrong is a price that lies between two ends.
            prices = read_page(turns[-1][0]).pieces
            assert reward == 1.0 or any(" to $" in piece for piece in prices)


def test_the_seed_varies_the_words_and_not_the_walk() -> None:
    task = webshop().tasks("test")[0]
    told = [episode(webshop(), task, seed)[0] for seed in range(8)]
    assert len({turns[0][1] for turns in told}) == 2
    assert len({tuple(action for _, _, action in turns) for turns in told}) == 1
    assert told[0] == episode(webshop(), task, 0)[0]


def test_it_shops_in_a_catalogue_that_it_knows_nothing_of() -> None:
    shop = make("webshop", data=str(recording("webshop_env").parent))
    tasks = shop.tasks("test")[::5]
    assert sum(episode(shop, task, 0)[1] > 0.99 for task in tasks) > 0.7 * len(tasks)


@pytest.mark.parametrize(
    ("instruction", "product", "attributes", "options", "limit"),
    [
        (
            "I need women's dresses with long sleeve, side pockets and quick drying with color: dark red, and size: "
            "x-large, and price lower than 50.00 dollars",
            "women's dresses",
            ("long sleeve", "side pockets", "quick drying"),
            {"color": "dark red", "size": "x-large"},
            "50.00",
        ),
        ("Please get me hdmi cables with high speed", "hdmi cables", ("high speed",), {}, None),
        (
            "Find me non gmo, sugar free snack mixes with dairy free with flavor name: sea salt",
            "sugar free snack mixes",
            ("non gmo", "dairy free"),
            {"flavor name": "sea salt"},
            None,
        ),
        ("Find me hands free headphones, and price lower than 9.50 dollars", "hands free headphones", (), {}, "9.50"),
    ],
)
def test_instructions_are_taken_apart(
    instruction: str, product: str, attributes: tuple[str, ...], options: dict[str, str], limit: str | None
) -> None:
    wish = read_wish(instruction)
    assert (wish.product, wish.attributes, wish.options, wish.limit) == (product, attributes, options, limit)


def test_all_our_instructions_are_understood() -> None:
    goals = webshop().shop.goals
    for goal in (goals[index] for index in range(0, len(goals), 5)):
        wish = read_wish(goal.text)
        assert wish.product == goal.product.query
        assert wish.attributes == goal.attributes
        assert wish.options == goal.options
        assert float(wish.limit or 1_000_000) == goal.price_upper


def test_pages_are_read() -> None:
    shop = browser([product(), product(1, prices=(11.0, 20.5))])
    assert read_page(shop.text).kind is Kind.START
    shop.act("search[caps]")
    view = read_page(shop.text)
    assert (view.kind, view.number) == (Kind.RESULTS, 1)
    assert view.listings == (
        Listing("B00000", "Harbor Cap 0", "$18.5"),
        Listing("B00001", "Harbor Cap 1", "$11.0 to $20.5"),
    )
    shop.act("click[next >]")
    assert (read_page(shop.text).number, read_page(shop.text).listings) == (2, ())
    shop.act("click[< prev]")
    shop.act("click[b00000]")
    assert (read_page(shop.text).kind, read_page(shop.text).title) == (Kind.ITEM, "Harbor Cap 0")
    shop.act("click[features]")
    assert (read_page(shop.text).kind, read_page(shop.text).pieces) == (Kind.TEXT, ("Wool lining", "Ships today"))
    shop.act("click[< prev]")
    shop.act("click[buy now]")
    assert read_page(shop.text) is None
    assert read_page("") is None


def results(*listings: tuple[str, str, str], page: int = 1) -> str:
    shown = "".join(f" [SEP] {piece}" for listing in listings for piece in listing)
    previous = " [SEP] < Prev" if page > 1 else ""
    head = f"Instruction: [SEP] {WISH} [SEP] Back to Search [SEP] Page {page} (Total results: 9)"
    return f"{head}{previous} [SEP] Next >{shown}"


def test_it_passes_over_what_is_too_dear_or_something_else() -> None:
    dear, other = ("B01", "Harbor Cap", "$30.5"), ("B02", "Harbor Mug", "$3.0")
    fitting = ("B03", "Meadow Caps", "$29.0 to $35.0")
    assert WebShopExpert(9, 0).act(results(dear, other, fitting))[1] == "click[B03]"
    assert WebShopExpert(9, 0).act(results(dear, other))[1] == "click[Next >]"
    assert WebShopExpert(9, 0).act(results(dear, other, page=3))[1] == "click[B01]"
    assert WebShopExpert(4, 0).act(results(dear, other))[1] == "click[B01]"


def test_it_searches_for_less_when_nothing_is_found() -> None:
    assert WebShopExpert(9, 0).act(results())[1] == "search[caps]"


def test_it_chooses_again_after_it_was_led_away_from_a_product() -> None:
    task = Task("webshop", "1k/1476")
    observation, expert, led_away = webshop().reset(task), webshop().expert(0), False
    for _ in range(9):
        action = expert.act(observation)[1]
        result = webshop().step(action)
        if action == "click[grey]" and not led_away:
            result, led_away = webshop().step("click[< Prev]"), True
        observation = result.observation
        if result.done:
            break
    assert led_away
    assert result.reward == 1.0


def test_it_cannot_act_on_the_last_page() -> None:
    with pytest.raises(EnvironmentFault, match="cannot act on the observation 'Thank you"):
        WebShopExpert(1, 0).act("Thank you for shopping with us! [SEP] Your code:")
