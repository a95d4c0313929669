"""What a shop sells and what a customer wants: the data that pages, search and reward work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedse.seeding import python_random

#: The limit of a goal without one; the original's number.
NO_LIMIT = 1_000_000.0
#: What a product without a price costs, as in the original.
MISSING_PRICE = (100.0,)
#: The attributes of a product of which none are known, as in the original.
NO_ATTRIBUTES = ("DUMMY_ATTR",)


@dataclass(frozen=True)
class Product:
    """One product.

    Attributes:
        asin: its number, as shown on pages and clicked.
        title: its name.
        description: running text.
        bullets: the list on the page Features.
        category: the department.
        query: the words under which it was found, one per product type; compared by the reward.
        breadcrumb: its place in the shop, ``A › B › C``.
        prices: the one price shown, or the two ends of a range, in dollars.
        price: the price that is paid, in dollars.
        options: option name → values to choose from, in page order, all in lower case.
        attributes: what is true of it, for the reward; not all of it has to be written on a page.
        instruction: the wish that this product fulfils, without options and price; empty for most products.
        wanted: the attributes that the instruction asks for.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    category: str
    query: str
    breadcrumb: str
    prices: tuple[float, ...]
    price: float
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    instruction: str = ""
    wanted: tuple[str, ...] = ()

    @property
    def price_text(self) -> str:
        """The price as shown: ``$18.5``, or ``$11.0 to $20.5``."""
        return " to ".join(f"${price}" for price in self.prices)


@dataclass(frozen=True)
class Goal:
    """What the customer wants.

    Attributes:
        product: a product that fulfils it entirely; others may, too.
        text: the instruction, with options and price.
        attributes: the attributes asked for.
        options: option name → value asked for; or only the values, as in the original's goals written by people.
        price_upper: what may be paid at most, in dollars; :data:`NO_LIMIT` without a limit.
    """

    product: Product
    text: str
    attributes: tuple[str, ...]
    options: Mapping[str, str] | tuple[str, ...] = field(default_factory=dict)
    price_upper: float = NO_LIMIT


def paid_price(asin: str, prices: tuple[float, ...]) -> float:
    """What is paid for a product: its one price, or one between the two ends that depends on its number only.

    The original draws it from an unseeded generator at every start, so that its goals differ between runs.
    """
    if len(prices) == 1:
        return prices[0]
    return python_random("webshop", "price", asin).uniform(*prices)
