"""A catalogue of our own: products that are made up, in the statistics that matter of the original's.

A catalogue is a pure function of its name.  Some attributes are told in titles, or where the search finds them; all are
told in the bullets, every other time in other words, so that reading the pages pays.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedse.environments.webshop.products import MISSING_PRICE, NO_ATTRIBUTES, Product, paid_price
from fedse.environments.webshop.taxonomy import ProductType, exclusive, product_types, wordings
from fedse.seeding import python_random

#: Catalogue → number of products.
SIZES: Mapping[str, int] = {"1k": 1_000, "10k": 10_000, "100k": 100_000}

# Plain words: a results page names ten, and a small model reads each as one or two tokens.
_PLAIN_WORDS = """
    Harbor Meadow Canyon Lantern Compass Anchor Beacon Valley Prairie Glacier Willow Juniper Clover Heron Badger Otter
    Sparrow Raven Lynx Bison Puffin Falcon Brook Hollow Ridge Summit Orchard Thicket Pebble Lagoon Fjord Tundra Mesa
    Delta Cascade Breeze Aurora Eclipse Saturn Comet
"""
_BRANDS = _PLAIN_WORDS.split()
_ACRONYMS = frozenset(("bpa", "gmo", "hd", "usb", "uv"))
#: Shorter than the original's ten, since small models copy them letter by letter.
_ASIN_LENGTH = 6
_ASIN_LETTERS = "BCDFGHJKLMNPQRSTVWXYZ0123456789"

_LEADS = ("I need {}", "I am looking for {}", "Find me {}", "I want to buy {}", "Please get me {}")
# They name the kind of product, so that a search for it does not depend on what the title calls one.
_OPENINGS = ("{query} for {use}, by {brand}.", "One of our {query} for {use}.", "From our {query}. Meant for {use}.")
_KNOWN_FOR = ("Known for {}.", "Good to know: {}.", "It offers {}.")
_PLAIN = ("{}", "{}, as promised", "Special feature: {}", "{} - praised by buyers")
_FILLERS = (
    "Arrives in a plain box",
    "Two years of warranty",
    "Made in small series",
    "Gift wrap on request",
    "Returns are free for sixty days",
    "Tested by our own team",
    "Ask us anything before you buy",
    "Ships within one day",
)
#: How many attributes an instruction asks for → how often, in percent.
_WANTED = {1: 15, 2: 36, 3: 30, 4: 14, 5: 5}
#: How many attributes a product has beside → how often, in percent.
_UNASKED = {0: 32, 1: 30, 2: 20, 3: 11, 4: 7}
#: Number of options → most values of one, so that goals per product stay few.
_MOST_VALUES = {1: 6, 2: 6, 3: 4}

_INSTRUCTED = 0.58
_TWIN = 0.42
#: Number of wanted attributes → how often one of them can only be found by reading.
_HIDDEN = {0: 0.0, 1: 0.0, 2: 0.1, 3: 0.6, 4: 0.6, 5: 0.6}


@dataclass(frozen=True)
class _Told:
    """An attribute, and where the texts tell it: in the bullets always, in plain words or in others."""

    attribute: str
    in_title: bool
    described: bool
    bullet: str

    @property
    def hidden(self) -> bool:
        """Only reading the bullets reveals it."""
        return not (self.in_title or self.described)


@dataclass(frozen=True)
class _Draft:
    """A product before its texts are written."""

    kind: ProductType
    brand: str
    noun: str
    use: str
    told: tuple[_Told, ...]
    wanted: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    prices: tuple[float, ...]
    first_bullet: str

    @property
    def puzzling(self) -> bool:
        """Only reading reveals one of the wanted attributes, so it has a twin without that one."""
        return any(told.hidden for told in self.told if told.attribute in self.wanted)


def family(kind: ProductType, rng: random.Random) -> list[Product]:
    """One product of a kind, or two that differ in one respect; a pure function of ``rng``, the family's own stream."""
    base = _draft(kind, rng)
    products = [_written(base, rng)]
    if base.puzzling or rng.random() < _TWIN:
        products.append(_written(_twin(base, rng), rng))
    return products


def _draft(kind: ProductType, rng: random.Random) -> _Draft:
    wanted = _drawn(rng, _WANTED) if rng.random() < _INSTRUCTED else 0
    attributes = _compatible(rng.sample(kind.attributes, len(kind.attributes)))[: wanted + _drawn(rng, _UNASKED)]
    hidden = attributes[0] if rng.random() < _HIDDEN[wanted] else None
    bullets = {attribute: _bullet(attribute, rng) for attribute in attributes}
    if hidden:
        bullets[attributes[1]] = attributes[1].capitalize()
    titles = rng.choices((0, 1, 2), (45, 45, 10))[0]
    # Where one wanted attribute is hidden, the title names others, so that the search finds the family.
    titled = attributes[1:3] if hidden else rng.sample(attributes, min(titles, len(attributes)))
    return _Draft(
        kind=kind,
        brand=rng.choice(_BRANDS),
        noun=rng.choice(kind.nouns),
        use=rng.choice(kind.uses),
        told=tuple(
            _Told(
                attribute,
                in_title=attribute in titled,
                described=attribute != hidden and (place < wanted or rng.random() < 0.4),
                bullet=bullets[attribute],
            )
            for place, attribute in enumerate(attributes)
        ),
        # In an order of its own: the hidden one must not always be named first.
        wanted=tuple(rng.sample(attributes[:wanted], wanted)),
        options=_options(kind, rng),
        prices=_prices(kind, rng),
        first_bullet=bullets[attributes[1]] if hidden else "",
    )


def _twin(base: _Draft, rng: random.Random) -> _Draft:
    """Almost the same: without one attribute, with other values of an option, or at another price."""
    twin = replace(base, wanted=())
    change = "attribute" if base.puzzling else rng.choices(("attribute", "option", "price"), (50, 25, 25))[0]
    owned = [told.attribute for told in base.told]
    spare = [other for other in _compatible([*owned, *base.kind.attributes]) if other not in owned]
    if change == "attribute" and base.told and spare:
        candidates = [told for told in base.told if told.attribute in base.wanted] or base.told
        lost = rng.choice([told for told in candidates if told.hidden] or candidates)
        other = rng.choice(spare)
        told = tuple(
            replace(entry, attribute=other, bullet=_bullet(other, rng)) if entry is lost else entry
            for entry in base.told
        )
        return replace(twin, told=told)
    if change == "option" and base.options:
        name = rng.choice(list(base.options))
        values = base.kind.options[name]
        others = [value for value in values if value not in base.options[name][1:]]
        return replace(twin, options={**base.options, name: tuple(others[: len(base.options[name])])})
    factor = rng.uniform(1.5, 2.5)
    return replace(twin, prices=tuple(_rounded(price * factor) for price in base.prices))


def _compatible(attributes: Sequence[str]) -> list[str]:
    """Without those that exclude an earlier one."""
    kept: list[str] = []
    for attribute in attributes:
        if not any(attribute in group and group & {*kept} for group in exclusive()):
            kept.append(attribute)
    return kept


def _options(kind: ProductType, rng: random.Random) -> dict[str, tuple[str, ...]]:
    names = [name for name in kind.options if rng.random() < 0.85]
    options = {}
    for name in names:
        values = kind.options[name]
        count = rng.randint(2, min(_MOST_VALUES[len(names)], len(values)))
        options[name] = tuple(values[place] for place in sorted(rng.sample(range(len(values)), count)))
    return options


def _prices(kind: ProductType, rng: random.Random) -> tuple[float, ...]:
    if rng.random() < 0.02:
        return MISSING_PRICE
    low, high = kind.price
    price = _rounded(math.exp(rng.uniform(math.log(low), math.log(high))))
    if rng.random() < 0.2:
        return (price, max(_rounded(price * rng.uniform(1.1, 1.3)), price + 0.5))
    return (price,)


def _rounded(price: float) -> float:
    """To whole or half dollars, for short texts."""
    return round(price * 2) / 2


def _bullet(attribute: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(wordings()[attribute]).rstrip(".")
    return rng.choice(_PLAIN).format(attribute).capitalize()


def _written(draft: _Draft, rng: random.Random) -> Product:
    bullets = [told.bullet for told in draft.told]
    bullets += rng.sample(_FILLERS, max(1, 2 - len(bullets)))
    rng.shuffle(bullets)
    # The search reads the first bullet; a family with something hidden should be found by what is not.
    bullets.sort(key=lambda bullet: bullet != draft.first_bullet)
    asin = "B0" + "".join(rng.choices(_ASIN_LETTERS, k=_ASIN_LENGTH - 2))
    return Product(
        asin=asin,
        title=_title(draft, rng),
        description=_description(draft, rng),
        bullets=tuple(bullets),
        category=draft.kind.category,
        query=draft.kind.query,
        breadcrumb=draft.kind.breadcrumb,
        prices=draft.prices,
        price=paid_price(asin, draft.prices),
        options=draft.options,
        attributes=tuple(told.attribute for told in draft.told) or NO_ATTRIBUTES,
        instruction=_instruction(draft, rng) if draft.wanted else "",
        wanted=draft.wanted,
    )


def _title(draft: _Draft, rng: random.Random) -> str:
    named = " and ".join(_capitals(told.attribute) for told in draft.told if told.in_title)
    title = f"{draft.brand} {draft.noun}"
    if named:
        title += f" with {named}"
    return f"{title} for {draft.use}" if rng.random() < 0.1 else title


def _capitals(attribute: str) -> str:
    return " ".join(word.upper() if word in _ACRONYMS else word.capitalize() for word in attribute.split())


def _description(draft: _Draft, rng: random.Random) -> str:
    opening = rng.choice(_OPENINGS).format(brand=draft.brand, query=draft.kind.query, use=draft.use.lower())
    opening = opening[0].upper() + opening[1:]
    described = [told.attribute for told in draft.told if told.described]
    return f"{opening} {rng.choice(_KNOWN_FOR).format(listed(described))}" if described else opening


def _instruction(draft: _Draft, rng: random.Random) -> str:
    return rng.choice(_LEADS).format(f"{draft.kind.query} with {listed(draft.wanted)}")


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _drawn(rng: random.Random, weights: Mapping[int, int]) -> int:
    return rng.choices(list(weights), list(weights.values()))[0]


def generated(catalogue: str) -> list[Product]:
    """The products of a catalogue, a key of :data:`SIZES`, in catalogue order."""
    products: dict[str, Product] = {}
    kinds = product_types()
    number = 0
    while len(products) < SIZES[catalogue]:
        # A product whose number is taken is left out: one in 50 of the largest catalogue.
        for product in family(kinds[number % len(kinds)], python_random("webshop", "family", 1, catalogue, number)):
            products.setdefault(product.asin, product)
        number += 1
    chosen = list(products.values())[: SIZES[catalogue]]
    # The order decides between products of equal score in a search; a base must not always come before its twin.
    python_random("webshop", "order", 1, catalogue).shuffle(chosen)
    return chosen
