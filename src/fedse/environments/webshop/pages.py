"""WebShop's pages as a machine: where the customer is, what the page says, what a click does, what a visit is worth.

Texts and moves are those of the original's text mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from fedse.environments.base import StepResult
from fedse.environments.webshop.nouns import NounExtractor
from fedse.environments.webshop.products import Goal, Product
from fedse.environments.webshop.reward import Score, score
from fedse.environments.webshop.search import Ranking
from fedse.environments.webshop.wording import parsed, refusal, spelled

SEPARATOR = " [SEP] "
#: Products on a page of results, in the original.
PAGE_SIZE = 10
BACK, PREVIOUS, NEXT, BUY = "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews")


class Page(Enum):
    """Kinds of pages; the values of the last three are the buttons that lead there."""

    START = "start"
    RESULTS = "results"
    ITEM = "item"
    DONE = "done"
    DESCRIPTION = "description"
    FEATURES = "features"
    REVIEWS = "reviews"


class Browser:
    """One visit to the shop.

    Args:
        products: the catalogue.
        ranking: its search engine.
        instruction: the customer's wish, shown on every page but the last.
        parity: give an option value that occurs under two names to the later name always, as the original does.
        page_size: products on a page of results.

    Attributes:
        page: where the customer is.
        found: positions of the products that the last search found.
        product: the product that was opened, or bought.
        chosen: option name → value, in the order of the clicks.
    """

    def __init__(
        self,
        products: Sequence[Product],
        ranking: Ranking,
        instruction: str,
        *,
        parity: bool,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._products = products
        self._ranking = ranking
        self._instruction = instruction
        self._parity = parity
        self._page_size = page_size
        self._page_number = 1
        self._reward = 0.0
        self.page = Page.START
        self.found: Sequence[int] = ()
        self.product: Product | None = None
        self.chosen: dict[str, str] = {}

    def act(self, action: str) -> bool:
        """Follow ``search[…]`` or ``click[…]``; ``False`` if nothing happens.

        A click on Buy Now leads to the last page, which is complete after :meth:`pay`.
        """
        verb, argument = parsed(action)
        if verb == "search":
            self._forget()
            self._open_results(self._ranking.search(argument))
            return True
        return verb == "click" and self._click(argument)

    def show(self, found: Sequence[int]) -> None:
        """Open the first page of results that did not come from the search engine."""
        self._forget()
        self._open_results(found)

    def pay(self, reward: float) -> None:
        """Note on the last page what the purchase was worth."""
        self._reward = reward

    @property
    def clickables(self) -> list[str]:
        """What can be clicked, in lower case and in page order; ``search`` stands for the search field."""
        if self.page is Page.START:
            return ["search"]
        if self.page is Page.DONE:
            return []
        if self.page is Page.RESULTS:
            buttons = [BACK, *([PREVIOUS] if self._page_number > 1 else []), NEXT]
            return [text.lower() for text in (*buttons, *(product.asin for product in self._listed()))]
        buttons = [BACK, PREVIOUS]
        if self.page is not Page.ITEM:
            return [text.lower() for text in buttons]
        values = (value for group in self._opened.options.values() for value in group)
        return list(dict.fromkeys((*(text.lower() for text in (*buttons, *SUB_PAGES, BUY)), *values)))

    @property
    def text(self) -> str:
        """The page as the agent reads it: its pieces, stripped, without empty ones."""
        if self.page is Page.START:
            return _joined(("WebShop", "Instruction:", self._instruction, "Search"))
        if self.page is Page.DONE:
            return _joined(_thanks(self._opened, self.chosen, self._reward))
        return _joined(("Instruction:", self._instruction, BACK, *self._body()))

    def _body(self) -> Iterable[str]:
        if self.page is Page.RESULTS:
            yield f"Page {self._page_number} (Total results: {len(self.found)})"
            if self._page_number > 1:
                yield PREVIOUS
            yield NEXT
            for product in self._listed():
                yield from (product.asin, product.title, product.price_text)
            return
        yield PREVIOUS
        product = self._opened
        if self.page is Page.ITEM:
            for name, values in product.options.items():
                yield name
                yield from values
            yield from (product.title, f"Price: {product.price_text}", "Rating: N.A.", *SUB_PAGES, BUY)
        elif self.page is Page.DESCRIPTION:
            yield product.description
        elif self.page is Page.FEATURES:
            yield from product.bullets

    def _click(self, button: str) -> bool:
        if self.page is Page.START or button not in self.clickables:
            return False
        if self.page is Page.ITEM and self._choose(button):
            return True
        if button == BACK.lower():
            self._forget()
            self.page = Page.START
        elif button == PREVIOUS.lower():
            self._go_back()
        elif self.page is Page.RESULTS:
            if button == NEXT.lower():
                self._page_number += 1
            else:
                self.product = next(product for product in self._listed() if product.asin.lower() == button)
                self.page = Page.ITEM
        elif button == BUY.lower():
            self._reward = 0.0
            self.page = Page.DONE
        else:
            self.page = Page(button)
        return True

    def _choose(self, value: str) -> bool:
        """Take an option value; ``False`` if the product has none such."""
        names = [name for name, values in self._opened.options.items() if value in values]
        if not names:
            return False
        open_names = [name for name in names if name not in self.chosen]
        self.chosen[names[-1] if self._parity or not open_names else open_names[0]] = value
        return True

    def _go_back(self) -> None:
        if self.page is Page.RESULTS:
            self._page_number -= 1
        elif self.page is Page.ITEM:
            self._forget()
            self.page = Page.RESULTS
        else:
            self.page = Page.ITEM

    def _open_results(self, found: Sequence[int]) -> None:
        self.found = found
        self._page_number = 1
        self.page = Page.RESULTS

    def _forget(self) -> None:
        self.product = None
        self.chosen = {}

    def _listed(self) -> list[Product]:
        """The products on the current page of results; none beyond the end."""
        end = self._page_number * self._page_size
        return [self._products[position] for position in self.found[end - self._page_size : end]]

    @property
    def _opened(self) -> Product:
        assert self.product is not None, "item pages exist only while a product is open"
        return self.product


def _thanks(product: Product, chosen: Mapping[str, str], reward: float) -> Iterable[str]:
    """The last page: the purchase and its reward, with the original's empty fields for studies with people."""
    yield from ("Thank you for shopping with us!", "Your code:", "None", "(Paste it in your MTurk interface.)")
    yield from ("Purchased", "asin", product.asin, "options", _json(chosen), "attrs", "None")
    yield from ("category", "None", "query", "None", "product category", "None")
    yield from ("Target", "asin", "options", "attrs", "price upper", "instuction text")
    yield from ("category", "product category", "query", "Goal", "None")
    yield from ("Reward", "Your score (min 0.0, max 1.0)", str(reward), "Reward Details", "None")


def _json(chosen: Mapping[str, str]) -> str:
    """As Jinja's ``tojson`` writes it in the original's template: sorted, the letters escaped that HTML would read."""
    text = json.dumps(chosen, sort_keys=True)
    for letter in "<>&'":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _joined(pieces: Iterable[str]) -> str:
    return SEPARATOR.join(filter(None, (piece.strip() for piece in pieces)))


class Visit:
    """A visit, from the start page to the purchase and, in the original, beyond.

    Args:
        products, ranking, page_size: see :class:`Browser`.
        goal: what the customer wants.
        nouns: for the reward.
        parity: understand only actions of the exact form, and show the page again instead of any other answer; see also
            :func:`~fedse.environments.webshop.reward.score` and :class:`Browser`.

    Attributes:
        goal: what the customer wants.
        browser: the pages.
        text: the page shown.
        ignored: the last action did nothing.
        score: what the last purchase was worth; ``None`` before one.
    """

    def __init__(
        self,
        products: Sequence[Product],
        ranking: Ranking,
        goal: Goal,
        *,
        nouns: NounExtractor,
        parity: bool,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self.goal = goal
        self._nouns = nouns
        self._parity = parity
        self.browser = Browser(products, ranking, goal.text, parity=parity, page_size=page_size)
        self.text = self.browser.text
        self.ignored = False
        self.score: Score | None = None

    def step(self, action: str) -> StepResult:
        """Follow an action; only a purchase gives a reward."""
        offered = self.browser.clickables
        self.ignored = not self.browser.act(action if self._parity else spelled(action, offered))
        if not self.ignored:
            return self._arrive()
        return StepResult(self.text if self._parity else refusal(action, offered), 0.0, False)

    def show(self, found: Sequence[int]) -> StepResult:
        """Go to results that did not come from the search engine."""
        self.ignored = False
        self.browser.show(found)
        return self._arrive()

    def _arrive(self) -> StepResult:
        browser = self.browser
        bought = browser.product if browser.page is Page.DONE else None
        if bought is not None:
            self.score = score(bought, browser.chosen, self.goal, nouns=self._nouns, parity=self._parity)
            browser.pay(self.score.reward)
        self.text = browser.text
        reward = 0.0 if bought is None or self.score is None else self.score.reward
        return StepResult(self.text, reward, bought is not None)
