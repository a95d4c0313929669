"""The made-up catalogue is sound, fair and fixed; the original's file formats are read and written."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fedse.environments import make
from fedse.environments.webshop import WebShop, generated, read_catalogue, write_catalogue
from fedse.environments.webshop.nouns import lexicon_nouns
from fedse.environments.webshop.products import NO_LIMIT, Goals, Product, paid_price
from fedse.environments.webshop.reward import score, similarity
from fedse.environments.webshop.search import analyzed, document
from fedse.environments.webshop.taxonomy import exclusive, product_types, wordings
from fedse.errors import ConfigError
from fedse.types import Task
from helpers.recordings import recording
from helpers.webshop_goods import product

ITEM: dict[str, Any] = {
    "asin": "B01",
    "name": "Wool Cap",
    "full_description": "Warm.",
    "small_description": ["Wool", "Ships today"],
    "pricing": "$11.50$1,020.25",
    "category": "fashion",
    "query": " Wool Caps ",
    "product_category": "Clothing › Caps",
    "customization_options": {"Color": [{"value": " Red/Blue ", "image": None}, {"value": "GREEN"}], "Size": None},
    "images": ["https://shop.invalid/B01.jpg"],
    "brand": "dropped",
}
WISHES = {"B01": {"attributes": ["warm", "wool"], "instruction": "Find me caps", "instruction_attributes": ["wool"]}}


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return generated("1k")


def files(folder: Path, items: Any, wishes: Any = WISHES) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "items_shuffle_1000.json").write_text(json.dumps(items))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(wishes))
    return folder


# The tables behind the catalogue


def test_attributes_cannot_be_taken_for_each_other() -> None:
    for first, second in itertools.combinations(wordings(), 2):
        assert similarity(first, second) <= 85, (first, second)


def test_other_words_share_no_stem_with_the_attribute_and_spell_out_none() -> None:
    for attribute, sentences in wordings().items():
        for sentence in sentences:
            assert not set(analyzed(attribute)) & set(analyzed(sentence)), sentence
            assert not any(other in sentence.lower() for other in wordings()), sentence
    sentences = [sentence.rstrip(".").lower() for told in wordings().values() for sentence in told]
    assert not any(first in second for first, second in itertools.permutations(sentences, 2))


def test_kinds_of_products_are_complete() -> None:
    kinds = product_types()
    assert Counter(kind.category for kind in kinds).keys() == {"fashion", "beauty", "grocery", "electronics", "garden"}
    assert len({kind.query for kind in kinds}) == len(kinds) == 46
    assert {attribute for kind in kinds for attribute in kind.attributes} == wordings().keys()
    for kind in kinds:
        assert 3 <= len(kind.breadcrumb.split(" › ")) <= 6
        assert 6 <= len(kind.attributes) <= 10
        assert all(analyzed(kind.query)[-1] in analyzed(noun) for noun in kind.nouns), kind.query
        values = [value for group in kind.options.values() for value in group]
        assert len(values) == len(set(values)), f"{kind.query}: a value under two names"


# Products


def test_the_catalogue_never_changes(products: list[Product]) -> None:
    # A new digest means new tasks under old names: raise the version in the environment's spec with it.
    assert hashlib.sha256(repr(products).encode()).hexdigest()[:16] == "b3664937ba7ba408"
    assert WebShop().spec.version == 2


def test_other_sizes_are_other_catalogues(products: list[Product]) -> None:
    more = generated("10k")
    assert (len(products), len(more)) == (1000, 10_000)
    assert len({item.asin for item in more}) == 10_000
    assert not {repr(item) for item in products} & {repr(item) for item in more}


def test_all_that_is_true_of_a_product_is_told_in_its_features(products: list[Product]) -> None:
    for item in products:
        features = " ".join(item.bullets).lower()
        for attribute in item.attributes:
            tellings = (attribute, *(sentence.rstrip(".").lower() for sentence in wordings().get(attribute, ())))
            assert attribute == "DUMMY_ATTR" or any(telling in features for telling in tellings)
        told = {attribute for attribute in wordings() if attribute in f"{document(item)} {features}"}
        assert told <= set(item.attributes), item.asin
        assert not any(len(group & set(item.attributes)) > 1 for group in exclusive())


def test_some_wishes_can_only_be_told_apart_by_reading(products: list[Product]) -> None:
    wishes = [item for item in products if item.instruction]
    hiding = [item for item in wishes if any(attribute not in document(item) for attribute in item.wanted)]
    assert 0.2 < len(hiding) / len(wishes) < 0.45
    alone = [item for item in hiding if sum(other.title.startswith(item.title) for other in products) < 2]
    assert len(alone) < 0.2 * len(hiding)


def test_prices_take_all_forms(products: list[Product]) -> None:
    shares = Counter(
        "none" if item.prices == (100.0,) else "range" if len(item.prices) == 2 else "one" for item in products
    )
    assert shares["one"] == pytest.approx(780, abs=40)
    assert shares["range"] == pytest.approx(200, abs=40)
    assert shares["none"] == pytest.approx(20, abs=15)
    assert 10 <= sum(item.price > 1000 for item in products) <= 40
    for item in products:
        assert item.prices[0] <= item.price <= item.prices[-1]
        assert len(item.prices) == 1 or item.prices[0] < item.prices[1]
    assert {item.price_text.count(" to ") for item in products} == {0, 1}


def test_every_goal_is_met_by_its_own_product(products: list[Product]) -> None:
    goals = Goals(products)
    assert 2500 < len(goals) < 7000
    for goal in (goals[index] for index in range(0, len(goals), 7)):
        for parity in (False, True):
            found = score(goal.product, goal.options, goal, nouns=lexicon_nouns, parity=parity)
            assert found.reward == 1.0, (goal, found)


def test_observations_stay_short(products: list[Product]) -> None:
    assert max(len(item.title.split()) for item in products) <= 14
    assert max(len(" ".join(item.bullets)) for item in products) < 450


# Goals


def test_goals_are_all_combinations_of_values_in_the_originals_order() -> None:
    item = product(instruction="I need caps", wanted=("wool lining",), options={"size": ("s", "m"), "color": ("red",)})
    goals = Goals([product(1), item])
    assert sorted(goal.options["size"] for goal in goals) == ["m", "s"]
    assert {next(iter(goal.options)) for goal in goals} == {"color"}
    assert all(
        goal.text.startswith(f"I need caps with color: red, and size: {goal.options['size']}, and price lower than ")
        for goal in goals
    )
    assert [(found.asin, sorted(places)) for found, places in goals.by_product()] == [(item.asin, [0, 1])]


@pytest.mark.parametrize(("price", "limited"), [(18.5, True), (979.99, True), (980.0, False), (1500.0, False)])
def test_the_price_limit_is_one_of_the_next_multiples_of_ten(price: float, limited: bool) -> None:
    item = product(instruction="I need caps", wanted=("wool lining",), options={}, price=price)
    [goal] = Goals([item])
    if limited:
        assert goal.price_upper > price
        assert goal.price_upper % 10 == 0
        assert goal.price_upper <= price + 50
        assert goal.text == f"I need caps, and price lower than {goal.price_upper:.2f} dollars"
    else:
        assert (goal.price_upper, goal.text) == (NO_LIMIT, "I need caps")


def test_a_price_between_two_ends_depends_on_the_product_only() -> None:
    drawn = {paid_price(asin, (10.0, 20.0)) for asin in ("B01", "B02", "B01")}
    assert len(drawn) == 2
    assert all(10.0 <= price <= 20.0 for price in drawn)
    assert paid_price("B01", (12.5,)) == 12.5


def test_goals_of_the_original_are_reproduced_index_by_index() -> None:
    folder = recording("webshop_env").parent
    prices, expected = (
        json.loads(gzip.decompress((folder / f"webshop_{name}.json.gz").read_bytes())) for name in ("prices", "goals")
    )
    goals = Goals(read_catalogue(folder, prices))
    assert len(goals) == len(expected)
    for goal, wanted in zip(goals, expected, strict=True):
        assert goal.product.asin == wanted["asin"]
        assert goal.text == wanted["instruction_text"]
        assert list(goal.attributes) == wanted["attributes"]
        assert list(goal.options.items()) == list(wanted["goal_options"].items())
        assert goal.price_upper == wanted["price_upper"]


# Files


def test_items_are_normalised_as_the_original_does(tmp_path: Path) -> None:
    others = [
        ITEM | {"asin": "nan"},
        ITEM | {"asin": "B0123456789"},
        ITEM,
        ITEM | {"asin": "B02", "pricing": None, "small_description": "One text", "customization_options": None},
    ]
    first, second = read_catalogue(files(tmp_path / "a", [ITEM, *others]))
    assert first == Product(
        asin="B01",
        title="Wool Cap",
        description="Warm.",
        bullets=("Wool", "Ships today"),
        category="fashion",
        query="wool caps",
        breadcrumb="Clothing › Caps",
        prices=(11.5, 1020.25),
        price=paid_price("B01", (11.5, 1020.25)),
        options={"color": ("red | blue", "green")},
        attributes=("warm", "wool"),
        instruction="Find me caps",
        wanted=("wool",),
    )
    assert first.price_text == "$11.5 to $1020.25"
    assert (second.prices, second.price, second.bullets, second.options) == ((100.0,), 100.0, ("One text",), {})
    assert (second.attributes, second.instruction) == (("DUMMY_ATTR",), "")


def test_a_written_catalogue_is_read_back_unchanged(tmp_path: Path, products: list[Product]) -> None:
    write_catalogue(products, tmp_path / "shop")
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [
        "items_human_ins.json",
        "items_ins_v2_1000.json",
        "items_shuffle_1000.json",
    ]
    assert read_catalogue(tmp_path / "shop") == products
    ours, theirs = make("webshop"), make("webshop", data=str(tmp_path / "shop"))
    assert [task.id.replace("data", "1k") for task in theirs.tasks("test")] == [task.id for task in ours.tasks("test")]
    assert [theirs.spec.splits[f"benchmark-{name}"] for name in ("test", "dev")] == [500, 1000]
    first = theirs.tasks("benchmark-test")[0]
    assert theirs.reset(first) == ours.reset(Task("webshop", "1k/0"))


def test_gzipped_files_are_read_and_a_file_can_be_named(tmp_path: Path) -> None:
    folder = files(tmp_path / "a", [ITEM])
    expected = read_catalogue(folder)
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read_catalogue(folder) == read_catalogue(folder / "items_shuffle_1000.json") == expected
    for path in list(folder.iterdir()):
        shutil.move(path, folder / path.name.replace("_1000", ""))
    assert read_catalogue(folder) == read_catalogue(folder / "items_shuffle.json.gz") == expected


@pytest.mark.parametrize(
    ("items", "wishes", "complaint"),
    [
        ({}, WISHES, "holds dict, expected list"),
        ([{**ITEM, "pricing": 3}], WISHES, r"not in the original's format; product 0: pricing is a number, not a text"),
        ([ITEM, {"asin": "B02"}], WISHES, "product 1: 'small_description' is missing"),
        ([ITEM, None], WISHES, "product 1: it is null, not an object"),
        ([ITEM, {**ITEM, "asin": None}], WISHES, "product 1: asin is null"),
        ([ITEM, {**ITEM, "asin": "B2"}, {**ITEM, "asin": "B3", "name": None}], WISHES, "product 2: name is null"),
        ([{**ITEM, "small_description": ["Wool", None]}], WISHES, r"product 0: small_description\[1\] is null"),
        ([{**ITEM, "full_description": ["Warm."]}], WISHES, "full_description is a list, not a text"),
        ([{**ITEM, "product_category": None}], WISHES, "product_category is null"),
        ([{**ITEM, "category": 3}], WISHES, "category is a number"),
        ([{**ITEM, "query": None}], WISHES, "query is null"),
        ([{**ITEM, "customization_options": {"Color": [{"value": None}]}}], WISHES, "a value of 'Color' is null"),
        ([{**ITEM, "customization_options": {"Color": "red"}}], WISHES, "the option 'Color' is a text, not a list"),
        ([ITEM], {"B01": None}, "its wish is null, not an object"),
        ([ITEM], {"B01": {"attributes": "wool"}}, "attributes is a text, not a list"),
        ([ITEM], {"B01": {"attributes": [None]}}, r"attributes\[0\] is null"),
        ([ITEM], {"B01": {**WISHES["B01"], "instruction": 3}}, "instruction is a number"),
        ([ITEM], {"B01": {"attributes": [], "instruction": "x"}}, "the instruction of B01 names no attributes"),
        ([ITEM], [], "holds list, expected dict"),
        ([ITEM], WISHES, "too few of the 1 products have an instruction"),
    ],
)
def test_damaged_data_is_refused_with_its_place(tmp_path: Path, items: Any, wishes: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make("webshop", data=str(files(tmp_path / "a", items, wishes)))


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no items_shuffle_1000"):
        read_catalogue(tmp_path)
    folder = files(tmp_path / "a", [ITEM])
    (folder / "items_ins_v2_1000.json").unlink()
    with pytest.raises(ConfigError, match=r"there is no file .*items_ins_v2_1000"):
        read_catalogue(folder)
    (folder / "items_shuffle_1000.json").write_text("[")
    with pytest.raises(ConfigError, match=r"items_shuffle_1000\.json cannot be read"):
        read_catalogue(folder)
    with pytest.raises(ConfigError, match="is not named like an items file"):
        read_catalogue(folder / "goods.json")


def test_changed_data_are_read_again(tmp_path: Path) -> None:
    wishes = dict.fromkeys(("B01", "B02", "B03", "B04", "B05"), WISHES["B01"])
    folder = files(tmp_path / "a", [ITEM | {"asin": asin} for asin in wishes], wishes)
    assert goals_in(folder) == 10
    files(tmp_path / "a", [ITEM | {"asin": asin} for asin in list(wishes)[:4]], wishes)
    assert goals_in(folder) == 8


def goals_in(folder: Path) -> int:
    splits = make("webshop", data=str(folder)).spec.splits
    return splits["train"] + splits["test"]
