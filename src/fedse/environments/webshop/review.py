"""What can be told of a turn in WebShop, and of what can be done after it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedse.environments.review import Review, Seen
from fedse.environments.webshop.pages import BACK, BUY, PREVIOUS
from fedse.environments.webshop.reading import Kind, read_page

_WORD = re.compile(r"[a-z0-9]+")
_WISH = re.compile(r"\A(?:I want|Needed:) (.+?)\.?\Z", re.IGNORECASE)
_PRODUCT = re.compile(r"\bB0\w{4,8}\b")
_PRICE = re.compile(r"\$\d+(?:\.\d+)?")
_OPTION = re.compile(r"\A(?:The (.+?) is|Option (.+?):) (.+?)\.\Z", re.IGNORECASE)
_LIMIT = re.compile(r"lower than (\d+(?:\.\d+)?) dollars")
_SMALL = {"with", "and", "for", "in", "a", "an", "the"}
_SEARCH = re.compile(r"search\[(.*)\]", re.IGNORECASE)


def review(turns: Sequence[Seen]) -> list[Review]:
    """See :meth:`fedse.environments.base.Environment.review`.

    What does nothing is answered with a hint, which is no page.  The page does not show which option was chosen, and
    pages that are left again are no loss: there was something to read.
    """
    return [Review("[SEP]" in turn.answer, _truthful(turn)) for turn in turns]


def offers(turns: Sequence[Seen]) -> list[str]:
    """The buttons of the page, a search for the product; see :meth:`fedse.environments.base.Environment.offers`."""
    pages = (read_page(text) for turn in reversed(turns) for text in (turn.answer, turn.observation))
    page = next(filter(None, pages), None)
    if page is None:
        return []
    if page.kind is Kind.START:
        return [f"search[{page.wish.product}]", f"search[{' '.join([page.wish.product, *page.wish.attributes])}]"]
    if page.kind is Kind.RESULTS:
        buttons = [listing.asin for listing in page.listings] or [BACK]
    else:
        buttons = [*page.options, BUY, PREVIOUS] if page.kind is Kind.ITEM else [PREVIOUS]
    return [f"click[{button}]" for button in buttons]


def _truthful(turn: Seen) -> bool:
    shown = turn.observation.lower()
    words = set(_WORD.findall(shown)) | _SMALL
    asked = [found[1] for found in (_WISH.match(turn.thought), _SEARCH.fullmatch(turn.action)) if found]
    option = _OPTION.match(turn.thought)
    prices = {_number(price) for price in _PRICE.findall(shown)} | {float(limit) for limit in _LIMIT.findall(shown)}
    return (
        all(words.issuperset(_WORD.findall(text.lower())) for text in asked)
        and all(product.lower() in shown for product in _PRODUCT.findall(turn.thought))
        and all(_number(price) in prices for price in _PRICE.findall(turn.thought))
        and (option is None or option[3].lower() in shown)
    )


def _number(price: str) -> float:
    return float(price.lstrip("$"))
