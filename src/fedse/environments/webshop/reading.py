"""What a customer can read: the wish in the instruction, and what stands on a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from fedse.environments.webshop.pages import BUY, NEXT, PREVIOUS, SEPARATOR

_LIMIT = re.compile(r", and price lower than (\d+\.\d\d) dollars$")
#: The last " with " before the first colon begins the options.
_OPTIONS = re.compile(r" with ((?:(?! with )[^:])+: .*)$")
_LEAD = re.compile(r"(?:I need|I am looking for|Find me|I want to buy|Please get me) ", re.IGNORECASE)
_RESULTS = re.compile(r"Page (\d+) \(Total results: \d+\)")
_AMOUNT = re.compile(r"\$([\d.]+)")


class Kind(Enum):
    """Kinds of pages, as far as a reader can tell them apart."""

    START = auto()
    RESULTS = auto()
    ITEM = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Wish:
    """An instruction, taken apart."""

    product: str  #: the kind of product; in instructions of the original also attributes that stand before it
    attributes: tuple[str, ...]  #: the attributes that can be told from it
    options: Mapping[str, str]  #: option name → value
    limit: str | None  #: the price limit as written, such as ``40.00``; ``None`` without one

    def affordable(self, price: str) -> bool:
        """Whether a price as shown, or the lower end of a range, keeps the limit."""
        return self.limit is None or float(_AMOUNT.findall(price)[0]) <= float(self.limit)


@dataclass(frozen=True, slots=True)
class Listing:
    """One product on a page of results, as shown."""

    asin: str
    title: str
    price: str


@dataclass(frozen=True, slots=True)
class View:
    """A page as read."""

    kind: Kind  #: which page it is
    wish: Wish  #: the instruction on it
    number: int  #: of a page of results, from 1
    listings: tuple[Listing, ...]  #: the products on a page of results
    title: str  #: of the product on its page
    pieces: tuple[str, ...]  #: everything after the instruction

    @property
    def options(self) -> tuple[str, ...]:
        """Values that can be chosen on the page of a product, as far as they can be told from their names."""
        price = next(position for position, piece in enumerate(self.pieces) if piece.startswith("Price: "))
        between = self.pieces[self.pieces.index(PREVIOUS) + 1 : price - 1]
        return tuple(piece for piece in between if piece not in self.wish.options)


def read_page(observation: str) -> View | None:
    """Read a page; ``None`` if it is none that a visit goes on from, such as the last one."""
    pieces = observation.split(SEPARATOR)
    if "Instruction:" not in pieces[:2] or len(pieces) < 3:
        return None
    place = pieces.index("Instruction:")
    wish, rest = read_wish(pieces[place + 1]), tuple(pieces[place + 2 :])
    if place == 1:
        return View(Kind.START, wish, 0, (), "", rest)
    match = next(filter(None, map(_RESULTS.fullmatch, rest[1:2])), None)
    if match:
        shown = rest[rest.index(NEXT) + 1 :]
        listings = tuple(Listing(*shown[first : first + 3]) for first in range(0, len(shown) - 2, 3))
        return View(Kind.RESULTS, wish, int(match[1]), listings, "", rest)
    if rest[-1] == BUY:
        price = next(position for position, piece in enumerate(rest) if piece.startswith("Price: "))
        return View(Kind.ITEM, wish, 0, (), rest[price - 1], rest)
    return View(Kind.TEXT, wish, 0, (), "", rest[rest.index(PREVIOUS) + 1 :])


def read_wish(instruction: str) -> Wish:
    """Take an instruction apart: ours, and as far as possible the original's synthetic ones."""
    limit = _LIMIT.search(instruction)
    text = _LIMIT.sub("", instruction)
    options = _OPTIONS.search(text)
    chosen = dict(_pair(piece) for piece in options[1].split(", and ")) if options else {}
    head, _, tail = _LEAD.sub("", _OPTIONS.sub("", text), count=1).partition(" with ")
    *before, product = head.split(", ")
    after = re.split(r", | and ", tail) if tail else []
    return Wish(product, (*before, *after), chosen, limit[1] if limit else None)


def _pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition(": ")
    return name, value
