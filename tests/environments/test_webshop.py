"""WebShop's pages read and behave as the original's; episodes, splits and payloads keep their contracts."""

from __future__ import annotations

import functools
import random
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedse.environments import StepResult, TaskTraits, make
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.checking import check_environment
from fedse.environments.webshop import WebShop
from fedse.environments.webshop.nouns import lexicon_nouns
from fedse.environments.webshop.pages import Browser, Page, Visit
from fedse.environments.webshop.wording import parsed
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.types import Task
from helpers.webshop_goods import WISH, Everything, browser, goal, product

HEAD = f"Instruction: [SEP] {WISH} [SEP] Back to Search"
THANKS = (
    "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk interface.) [SEP] "
    "Purchased [SEP] asin [SEP] {} [SEP] options [SEP] {} [SEP] attrs [SEP] None [SEP] category [SEP] None [SEP] query "
    "[SEP] None [SEP] product category [SEP] None [SEP] Target [SEP] asin [SEP] options [SEP] attrs [SEP] price upper "
    "[SEP] instuction text [SEP] category [SEP] product category [SEP] query [SEP] Goal [SEP] None [SEP] Reward [SEP] "
    "Your score (min 0.0, max 1.0) [SEP] {} [SEP] Reward Details [SEP] None"
)
ITEM = (
    f"{HEAD} [SEP] < Prev [SEP] size [SEP] small [SEP] large [SEP] color [SEP] red [SEP] blue [SEP] Harbor Cap 0 [SEP] "
    "Price: $18.5 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
)


def walked(shop: Browser, *actions: str) -> Browser:
    for action in actions:
        assert shop.act(action), action
    return shop


@functools.cache
def webshop() -> WebShop:
    return make("webshop")


def first_task() -> Task:
    return webshop().tasks("test")[0]


# Pages


def test_the_start_page() -> None:
    shop = browser([product()])
    assert shop.text == f"WebShop [SEP] Instruction: [SEP] {WISH} [SEP] Search"
    assert shop.clickables == ["search"]


def test_pages_of_results_list_ten_products_with_number_title_and_price() -> None:
    shop = browser([product(number) for number in range(12)])
    walked(shop, "search[caps]")
    products = " [SEP] ".join(f"B0{number:04d} [SEP] Harbor Cap {number} [SEP] $18.5" for number in range(10))
    assert shop.text == f"{HEAD} [SEP] Page 1 (Total results: 12) [SEP] Next > [SEP] {products}"
    assert shop.clickables == ["back to search", "next >", *(f"b0{number:04d}" for number in range(10))]
    walked(shop, "click[Next >]")
    assert shop.text.endswith(
        "Page 2 (Total results: 12) [SEP] < Prev [SEP] Next > [SEP] "
        "B00010 [SEP] Harbor Cap 10 [SEP] $18.5 [SEP] B00011 [SEP] Harbor Cap 11 [SEP] $18.5"
    )
    assert shop.clickables == ["back to search", "< prev", "next >", "b00010", "b00011"]


def test_pages_go_on_beyond_the_last_result_and_back_again() -> None:
    shop = walked(browser([product()]), "search[caps]", "click[next >]", "click[next >]")
    assert shop.text == f"{HEAD} [SEP] Page 3 (Total results: 1) [SEP] < Prev [SEP] Next >"
    walked(shop, "click[< prev]", "click[< prev]")
    assert shop.clickables == ["back to search", "next >", "b00000"]


def test_the_page_of_a_product_and_its_texts() -> None:
    shop = walked(browser([product()]), "search[caps]", "click[B00000]")
    assert shop.text == ITEM
    buttons = ["back to search", "< prev", "description", "features", "reviews", "buy now"]
    assert shop.clickables == [*buttons, "small", "large", "red", "blue"]
    for name, content in (
        ("Description", " [SEP] A cap for winter."),
        ("Features", " [SEP] Wool lining [SEP] Ships today"),
    ):
        walked(shop, f"click[{name}]")
        assert shop.text == f"{HEAD} [SEP] < Prev{content}"
        assert shop.clickables == ["back to search", "< prev"]
        walked(shop, "click[< Prev]")
        assert shop.text == ITEM
    assert walked(shop, "click[reviews]").text == f"{HEAD} [SEP] < Prev"


def test_pieces_are_stripped_and_empty_ones_left_out() -> None:
    odd = product(title="  Wide Cap ", description=" ", bullets=("", " Warm "), options={}, prices=(11.0, 20.5))
    shop = walked(browser([odd]), "search[caps]", "click[b00000]")
    assert f"{HEAD} [SEP] < Prev [SEP] Wide Cap [SEP] Price: $11.0 to $20.5 [SEP] Rating" in shop.text
    assert walked(shop, "click[features]").text == f"{HEAD} [SEP] < Prev [SEP] Warm"
    assert walked(shop, "click[< prev]", "click[description]").text == f"{HEAD} [SEP] < Prev"


def test_a_chosen_value_changes_nothing_on_the_page_and_survives_reading() -> None:
    shop = walked(browser([product()]), "search[caps]", "click[b00000]", "click[Blue]", "click[small]", "click[red]")
    assert shop.text == ITEM
    assert shop.chosen == {"color": "red", "size": "small"}
    walked(shop, "click[features]", "click[< prev]")
    assert shop.chosen == {"color": "red", "size": "small"}


@pytest.mark.parametrize("way_out", ["click[< prev]", "click[back to search]", "search[other caps]"])
def test_leaving_a_product_forgets_its_options(way_out: str) -> None:
    shop = walked(browser([product()]), "search[caps]", "click[b00000]", "click[red]", way_out)
    assert shop.page is (Page.START if way_out == "click[back to search]" else Page.RESULTS)
    assert (shop.chosen, shop.product) == ({}, None)


def test_going_back_from_a_product_leads_to_the_same_page_of_results() -> None:
    shop = browser([product(number) for number in range(30)])
    walked(shop, "search[caps]", "click[next >]", "click[next >]", "click[b00025]", "click[< prev]")
    assert "Page 3 (" in shop.text


def test_the_last_page_names_the_purchase_as_the_originals_template_writes_it() -> None:
    odd = product(options={"size": ("small",), "color": ("red & 'blue' <b>",)})
    shop = walked(browser([odd]), "search[caps]", "click[b00000]", "click[small]", "click[red & 'blue' <b>]")
    walked(shop, "click[buy now]")
    shop.pay(2 / 3)
    options = '{"color": "red \\u0026 \\u0027blue\\u0027 \\u003cb\\u003e", "size": "small"}'
    assert shop.text == THANKS.format("B00000", options, 2 / 3)
    assert shop.clickables == []


def test_a_value_under_two_names_can_be_chosen_for_both() -> None:
    twice = product(options={"frame": ("black", "white"), "lens": ("black", "white")})
    shop = walked(browser([twice]), "search[caps]", "click[b00000]", "click[black]", "click[white]")
    assert shop.chosen == {"frame": "black", "lens": "white"}
    shop = walked(browser([twice], parity=True), "search[caps]", "click[b00000]", "click[black]", "click[white]")
    assert shop.chosen == {"lens": "white"}


# Actions


@given(st.text(alphabet="ab[]\n ", max_size=24))
@example("search[a]\nclick[b]")
@example("click[a] click[b]")
@example("click[next >] extra")
@example("search[]")
@example("[a]")
def test_actions_are_cut_as_the_originals_expression_cuts_them(action: str) -> None:
    match = re.match(r"(.+)\[(.+)\]", action)
    assert parsed(action) == ((match[1], match[2].lower()) if match else ("", ""))


@pytest.mark.parametrize(
    "action",
    [
        "",
        "buy now",
        "search",
        "search[]",
        "click[search]",
        "click[description]",
        "Search[caps]",
        " search[caps]",
        "please search[caps]",
        "search[caps] click[next >]",
        "think[hello]",
        "click[b00001]",
    ],
)
def test_what_the_page_does_not_offer_is_ignored(action: str) -> None:
    shop = browser([product()])
    before = shop.text
    assert not shop.act(action)
    assert shop.text == before


def test_searching_works_on_every_page_and_in_small_letters() -> None:
    shop = browser([product()])
    for action in (
        "search[Red CAPS]",
        "click[b00000]",
        "search[caps]",
        "click[b00000]",
        "click[buy now]",
        "search[x] y",
    ):
        walked(shop, action)
    assert shop._ranking.queries == ["red caps", "caps", "x"]


def test_long_actions_take_no_time() -> None:
    shop = browser([product()])
    start = time.process_time()
    for action in (
        "[" * 300_000,
        "a[" * 150_000,
        "[a" * 100_000 + "]",
        "]" * 300_000,
        "search[" + "x " * 150_000 + "]",
    ):
        shop.act(action)
    assert time.process_time() - start < 1


# Episodes


def test_an_exact_purchase_is_a_success_and_ends_the_visit() -> None:
    shop = WebShop()
    wanted = shop.shop.goals[3]
    shop.reset(Task("webshop", "1k/3"))
    words = " ".join((wanted.product.title, *wanted.attributes, *wanted.options.values()))
    observation = shop.step(f"search[{words}]").observation
    if wanted.product.asin not in observation:
        pytest.fail("the test needs a goal whose product comes on the first page")
    assert shop.step(f"click[{wanted.product.asin}]").reward == 0.0
    for value in wanted.options.values():
        assert shop.step(f"click[{value}]").done is False
    result = shop.step("click[Buy Now]")
    assert (result.reward, result.done) == (1.0, True)
    assert result.observation.startswith("Thank you for shopping with us!")
    with pytest.raises(EnvironmentFault, match="no open visit"):
        shop.step("search[more]")


def test_ignored_actions_answer_with_the_same_page_in_parity() -> None:
    shop = WebShop(parity=True)
    first = shop.reset(first_task())
    for action in ("", "click[buy now]", "no", "search[]", "Search[caps]"):
        assert shop.step(action) == StepResult(first, 0.0, False)


@pytest.mark.parametrize(
    "task",
    [
        Task("webshop", "1k/999999"),
        Task("webshop", "1k/-1"),
        Task("webshop", "1k/03"),
        Task("webshop", "10k/3"),
        Task("webshop", "3"),
        Task("webshop", "1k/" + "9" * 5000),
        Task("maze", "1k/3"),
    ],
    ids=lambda task: task.id[:12],
)
def test_tasks_that_do_not_exist_are_faults(task: Task) -> None:
    with pytest.raises(EnvironmentFault, match="there is no task"):
        webshop().reset(task)


def test_ten_thousand_random_actions_are_all_answered() -> None:
    shop, rng = WebShop(), random.Random(0)
    tasks = shop.tasks("train")
    junk = ["", " ", "[", "]", "[]", "click[]", "click[ ]", "search[ ]", "search[\x00]", "click[Buy Now", "\n", "ÄÖ[ß]"]
    purchases = steps = 0
    while steps < 12_000:
        text = shop.reset(rng.choice(tasks))
        for _ in range(15):
            buttons = shop._visit.browser.clickables
            action = rng.choice(
                [
                    f"click[{rng.choice(buttons)}]",
                    f"click[{rng.choice(buttons).upper()}] and more",
                    f"search[{' '.join(rng.sample(text.split(), 4))}]",
                    rng.choice(junk),
                    "".join(rng.choices("abc[] \n<>&'\"é", k=rng.randrange(12))),
                ]
            )
            result = shop.step(action)
            steps += 1
            assert isinstance(result.observation, str)
            assert isinstance(result.reward, float)
            assert 0.0 <= result.reward <= 1.0
            bought = action.lower().startswith("click[buy now")  # whether or not the bracket is closed
            assert result.done == (bought and "buy now" in buttons)
            if result.done:
                purchases += 1
                assert f"max 1.0) [SEP] {result.reward} [SEP]" in result.observation
                break
            assert result.reward == 0.0
            assert "Instruction: [SEP] " in result.observation or "Write search[words]" in result.observation
            text = result.observation
    assert purchases > 50


def test_it_keeps_the_contract_of_environments() -> None:
    assert check_environment("webshop", samples=4) == []


# Options and splits


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="no catalogue '2k'"):
        make("webshop", catalogue="2k")
    with pytest.raises(ConfigError, match="parity must be true or false"):
        make("webshop", parity="yes")
    with pytest.raises(ConfigError, match=r"one of fashion, .*or a part such as '2/4', found 'toys'"):
        make("webshop", stock="toys")
    with pytest.raises(ConfigError, match="no search engine 'lucene'"):
        make("webshop", search="lucene")
    for wrong in (-1, "1", True):
        with pytest.raises(ConfigError, match="max_options must be an integer ≥ 0 or null"):
            make("webshop", max_options=wrong)
        with pytest.raises(ConfigError, match="max_features must be an integer ≥ 0 or null"):
            make("webshop", max_features=wrong)
    for wrong in (0, "3", True):
        with pytest.raises(ConfigError, match="page_size must be an integer ≥ 1"):
            make("webshop", page_size=wrong)
    with pytest.raises(ConfigError, match="both data="):
        make("webshop", catalogue="10k", data="/nowhere")
    with pytest.raises(ConfigError, match="there is no folder"):
        make("webshop", data="/nowhere")
    with pytest.raises(ConfigError, match="noun extractor 'no_such_pipeline' is not available"):
        make("webshop", nouns="no_such_pipeline")


def test_training_and_test_goals_are_of_different_products() -> None:
    shop = webshop().shop
    asins = {split: {shop.goals[index].product.asin for index in shop.splits[split]} for split in ("train", "test")}
    assert not asins["train"] & asins["test"]
    assert len(asins["test"]) > 80
    assert len(shop.splits["test"]) == 500
    with pytest.raises(UnknownNameError, match="did you mean test"):
        webshop().tasks("tests")


def test_max_options_leaves_out_the_goals_with_more_of_them() -> None:
    every, few = webshop(), make("webshop", max_options=1)
    for split in ("train", "test"):
        asked = [len(every.shop.goals[int(task.id.split("/")[1])].options) for task in every.tasks(split)]
        kept = [task for task, options in zip(every.tasks(split), asked, strict=True) if options <= 1]
        assert list(few.tasks(split)) == kept
        assert {0, 1} < set(asked), "nothing would be left out"
        assert few.spec.splits[split] == len(kept)
    left_out = next(task for task in every.tasks("test") if task not in few.tasks("test"))
    assert few.reset(left_out) == every.reset(left_out), "any goal can still be played"
    numbered = counterpart_of(every).numbered
    assert counterpart_of(few).numbered.items() < numbered.items(), "a server's indices do not depend on it"


def test_max_features_leaves_out_the_goals_with_more_of_them() -> None:
    shop = webshop().shop
    few = make("webshop", max_options=1, max_features=2)
    kept = [shop.goals[int(task.id.split("/")[1])] for task in few.tasks("test")]
    assert {len(goal.attributes) for goal in kept} == {1, 2}
    assert {len(goal.options) for goal in kept} <= {0, 1}
    fitting = [goal for goal in map(shop.goals.__getitem__, shop.splits["test"]) if len(goal.attributes) <= 2]
    assert kept == [goal for goal in fitting if len(goal.options) <= 1]


def test_page_size_says_how_many_products_a_page_of_results_has() -> None:
    usual, short = webshop(), make("webshop", page_size=3)
    task = usual.tasks("test")[0]
    for environment in (usual, short):
        environment.reset(task)
    ten = usual.step("search[shoes]").observation.split(" [SEP] ")
    three = short.step("search[shoes]").observation.split(" [SEP] ")
    head = three.index("Next >") + 1
    assert len(three) == head + 3 * 3
    assert three == ten[: len(three)]
    following = short.step("click[next >]").observation.split(" [SEP] ")
    assert following[-9:] == ten[len(three) : len(three) + 9], "the next page goes on where this one ended"
    session = counterpart_of(short).session()
    session.reset(session_id=0)
    assert len(session.available_actions()["clickables"]) < 3
    session.step("search[shoes]")
    assert len(session.available_actions()["clickables"]) == 2 + 3


def test_any_beginning_of_a_split_is_a_fair_sample() -> None:
    shop = webshop().shop
    for split in ("train", "test"):
        goals = [shop.goals[index] for index in shop.splits[split][:64]]
        assert len({goal.product.asin for goal in goals}) == 64
        departments = [goal.product.category for goal in goals]
        assert all(12 <= departments.count(name) <= 14 for name in set(departments))


# Shops that differ


def test_parts_of_the_catalogue_are_disjoint_and_keep_what_is_held_out() -> None:
    shops = [make("webshop", stock=f"{number}/2") for number in (1, 2)]
    asins = [{item.asin for item in shop.shop.products} for shop in shops]
    assert not asins[0] & asins[1]
    assert len(asins[0] | asins[1]) == 1000
    for split in ("train", "test"):
        parts = [set(shop.tasks(split)) for shop in shops]
        assert not parts[0] & parts[1]
        other = "test" if split == "train" else "train"
        assert not (parts[0] | parts[1]) & set(webshop().tasks(other))
    task = shops[0].tasks("test")[0]
    assert shops[0].reset(task) == webshop().reset(task)
    with pytest.raises(EnvironmentFault, match="not in stock '2/2'"):
        shops[1].reset(task)


def test_a_department_sells_its_own_products_only() -> None:
    shop = make("webshop", stock="beauty")
    assert {item.category for item in shop.shop.products} == {"beauty"}
    assert {shop.traits(task).kind for task in shop.tasks("test")} == {"beauty"}
    shop.reset(shop.tasks("test")[0])
    assert "Total results: 0" in shop.step("search[laptop]").observation


@pytest.mark.parametrize("search", ["titles", "overlap"])
def test_another_engine_orders_results_differently(search: str) -> None:
    shop, task = make("webshop", search=search), Task("webshop", "1k/1476")
    assert shop.reset(task) == webshop().reset(task)
    query = "search[office chairs metal legs memory foam grey]"
    assert shop.step(query).observation != webshop().step(query).observation


def test_traits_tell_department_words_and_points() -> None:
    # I want to buy office chairs with metal legs and memory foam with color: grey, and price lower than 270.00 dollars
    assert webshop().traits(Task("webshop", "1k/1476")) == TaskTraits("garden", size=21, difficulty=4)


def test_agentgyms_numbers_are_goals_of_the_catalogue() -> None:
    assert counterpart_of(webshop()).imported_task("17", "") == Task("webshop", "1k/17")
    assert counterpart_of(webshop()).imported_task("1k/17", "") == Task("webshop", "1k/17")


# The reward reaches the agent


def test_what_is_paid_is_what_the_reward_function_says() -> None:
    visit = Visit([product()], Everything(1), goal(), nouns=lexicon_nouns, parity=False)
    for action in ("search[cap]", "click[b00000]", "click[red]"):
        assert visit.step(action).reward == 0.0
    assert visit.step("click[buy now]") == StepResult(THANKS.format("B00000", '{"color": "red"}', 0.75), 0.75, True)
