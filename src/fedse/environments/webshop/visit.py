"""One visit to the shop with a goal in mind: the pages, and what the purchase is worth."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.environments.base import StepResult
from fedse.environments.webshop.nouns import NounExtractor
from fedse.environments.webshop.pages import PAGE_SIZE, Browser, Page
from fedse.environments.webshop.products import Goal, Product
from fedse.environments.webshop.reward import Score, score
from fedse.environments.webshop.search import Ranking


class Visit:
    """A visit, from the start page to the purchase and, in the original, beyond.

    Args:
        products: the catalogue.
        ranking: its search engine.
        goal: what the customer wants.
        nouns: for the reward.
        parity: see :func:`~fedse.environments.webshop.reward.score` and
            :class:`~fedse.environments.webshop.pages.Browser`.
        page_size: products on a page of results.

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
        self.ignored = not self.browser.act(action)
        return StepResult(self.text, 0.0, False) if self.ignored else self._arrive()

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
        return StepResult(
            self.text, 0.0 if bought is None or self.score is None else self.score.reward, bought is not None
        )
