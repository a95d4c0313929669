"""What a shop sells and what a customer wants: the data that pages, search and reward work on."""

from __future__ import annotations

import functools
import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedse.seeding import python_random

#: The limit of a goal without one; the original's number.
NO_LIMIT = 1_000_000.0
#: What a product without a price costs, as in the original.
MISSING_PRICE = (100.0,)
#: The attributes of a product of which none are known, as in the original.
NO_ATTRIBUTES = ("DUMMY_ATTR",)
# The seed and the steps are the original's, so that a goal's index means the same there and here.
_SEED = 233
_LEVELS = range(10, 1000, 10)


@dataclass(frozen=True)
class Product:
    """One product."""

    asin: str  #: its number, as shown on pages and clicked
    title: str  #: its name
    description: str  #: running text
    bullets: tuple[str, ...]  #: the list on the page Features
    category: str  #: the department
    query: str  #: the words under which it was found, one per product type; compared by the reward
    breadcrumb: str  #: its place in the shop, ``A › B › C``
    prices: tuple[float, ...]  #: the one price shown, or the two ends of a range, in dollars
    price: float  #: the price that is paid, in dollars
    options: Mapping[str, tuple[str, ...]]  #: option name → values to choose from, in page order, all in lower case
    attributes: tuple[str, ...]  #: what is true of it, for the reward; not all of it has to be written on a page
    instruction: str = ""  #: the wish that this product fulfils, without options and price; empty for most products
    wanted: tuple[str, ...] = ()  #: the attributes that the instruction asks for

    @property
    def price_text(self) -> str:
        """The price as shown: ``$18.5``, or ``$11.0 to $20.5``."""
        return " to ".join(f"${price}" for price in self.prices)


@dataclass(frozen=True)
class Goal:
    """What the customer wants."""

    product: Product  #: a product that fulfils it entirely; others may, too
    text: str  #: the instruction, with options and price
    attributes: tuple[str, ...]  #: the attributes asked for
    #: option name → value asked for; or only the values, as in the original's goals written by people
    options: Mapping[str, str] | tuple[str, ...] = field(default_factory=dict)
    price_upper: float = NO_LIMIT  #: what may be paid at most, in dollars; :data:`NO_LIMIT` without a limit


def paid_price(asin: str, prices: tuple[float, ...]) -> float:
    """What is paid for a product: its one price, or one between the two ends that depends on its number only.

    The original draws it from an unseeded generator at every start, so that its goals differ between runs.
    """
    if len(prices) == 1:
        return prices[0]
    return python_random("webshop", "price", asin).uniform(*prices)


class Goals(Sequence[Goal]):
    """All goals of a catalogue by index; made when asked for, since large catalogues have hundreds of thousands."""

    def __init__(self, products: Sequence[Product]) -> None:
        rng = random.Random(_SEED)
        self._products = [product for product in products if product.instruction]
        self._limits = [_price_limit(product.price, rng) for product in self._products]
        counts = [math.prod(map(len, product.options.values())) for product in self._products]
        self._first = [0, *itertools.accumulate(counts)]
        self._order = list(range(self._first[-1]))
        random.Random(_SEED).shuffle(self._order)
        self._made = functools.lru_cache(maxsize=4096)(self._goal)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Goal:  # type: ignore[override]
        return self._made(self._order[index])

    def by_product(self) -> list[tuple[Product, list[int]]]:
        """Every product with an instruction, and the indices of its goals in ascending order."""
        indices: list[list[int]] = [[] for _ in self._products]
        for index, number in enumerate(self._order):
            indices[bisect_right(self._first, number) - 1].append(index)
        return list(zip(self._products, indices, strict=True))

    def _goal(self, number: int) -> Goal:
        place = bisect_right(self._first, number) - 1
        product, limit = self._products[place], self._limits[place]
        options = _combination(product, number - self._first[place])
        wishes = [f" with {', and '.join(f'{name}: {value}' for name, value in options.items())}"] if options else []
        if limit < NO_LIMIT:
            wishes.append(f", and price lower than {limit:.2f} dollars")
        return Goal(product, product.instruction + "".join(wishes), product.wanted, options, limit)


def _price_limit(price: float, rng: random.Random) -> float:
    """The larger of two drawn out of the next four multiples of ten dollars; none above 980 dollars."""
    levels = [float(level) for level in _LEVELS if level > price][:4]
    return max(rng.sample(levels, 2)) if len(levels) >= 2 else NO_LIMIT


def _combination(product: Product, number: int) -> dict[str, str]:
    """Combination ``number`` of option values, names in alphabetical order, the last name changing fastest."""
    chosen = {}
    for name in sorted(product.options, reverse=True):
        number, place = divmod(number, len(product.options[name]))
        chosen[name] = product.options[name][place]
    return dict(reversed(chosen.items()))
