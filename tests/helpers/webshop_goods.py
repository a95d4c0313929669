"""A shop small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.environments.webshop.pages import Browser
from fedse.environments.webshop.products import Goal, Product

WISH = "I need caps with wool lining with color: red, and size: small, and price lower than 30.00 dollars"


def product(number: int = 0, **changes: object) -> Product:
    facts: dict = {
        "asin": f"B0{number:04d}",
        "title": f"Harbor Cap {number}",
        "description": "A cap for winter.",
        "bullets": ("Wool lining", "Ships today"),
        "category": "fashion",
        "query": "caps",
        "breadcrumb": "Clothing › Hats › Caps",
        "prices": (18.5,),
        "price": 18.5,
        "options": {"size": ("small", "large"), "color": ("red", "blue")},
        "attributes": ("wool lining", "ear flaps"),
    }
    return Product(**(facts | changes))


def goal(**changes: object) -> Goal:
    facts: dict = {
        "product": product(),
        "text": WISH,
        "attributes": ("wool lining",),
        "options": {"color": "red", "size": "small"},
        "price_upper": 30.0,
    }
    return Goal(**(facts | changes))


class Everything:
    """A search engine that finds the first ``count`` products, whatever is asked, and notes the queries."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.queries: list[str] = []

    def search(self, query: str) -> Sequence[int]:
        self.queries.append(query)
        return range(self.count)


def browser(products: Sequence[Product], *, parity: bool = False) -> Browser:
    return Browser(products, Everything(len(products)), WISH, parity=parity)
