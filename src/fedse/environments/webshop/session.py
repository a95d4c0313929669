"""WebShop behind AgentGym's server payloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedse.environments.agentgym.sessions import Session, finished
from fedse.environments.base import StepResult
from fedse.environments.webshop.pages import Page, parsed
from fedse.environments.webshop.search import MAX_RESULTS
from fedse.environments.webshop.shop import Shop
from fedse.environments.webshop.visit import Visit
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

#: What the original's server says when a search for attributes runs into a table that was never filled.
_ATTRIBUTE_SEARCH_FAULT = "TypeError(\"'NoneType' object is not subscriptable\")"


class WebShopSession(Session):
    """One slot of AgentGym's WebShop server.

    Args:
        shop: the shop to visit.
        visit: index of a goal → a visit to the shop with that goal.
        slot: the slot's number, quoted in error messages.
        parity: keep the original's faults: hidden searches for random products (``<r>``), categories (``<c>``) and
            queries (``<q>``), a crash (``<a>``), sessions that go on after the purchase.
    """

    def __init__(self, shop: Shop, visit: Callable[[int], Visit], slot: int, *, parity: bool) -> None:
        self._shop = shop
        self._begin = visit
        self._slot = slot
        self._parity = parity
        self._visit: Visit | None = None
        self._done = False

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``; takes ``session_id``, the index of a goal.

        The original sends the two values as a list, without their names.
        """
        index = kwargs["session_id"]
        if not (isinstance(index, int) and 0 <= index < len(self._shop.goals)):
            return {"error": f"There is no goal {index!r}: the catalogue has {len(self._shop.goals)}."}
        self._visit = self._begin(index)
        self._done = False
        return {"observation": self._visit.text, "info": None}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``."""
        if self._visit is None:
            return {"error": f"There is no open session in environment {self._slot}."}
        if self._done and not self._parity:
            return finished(self._slot)
        verb, argument = parsed(action)
        result = self._hidden_search(argument) if self._parity and verb == "search" else None
        if isinstance(result, str):
            return {"error": result}
        result = result or self._visit.step(action)
        self._done = result.done
        # The original sends an integer when nothing happened.
        reward = int(result.reward) if self._visit.ignored else result.reward
        return {"state": result.observation, "reward": reward, "done": result.done, "info": None}

    def observation(self) -> str:
        """Payload of ``GET /observation``: the page shown."""
        return self._opened.text

    def available_actions(self) -> dict[str, Any]:
        """Payload of ``GET /available_actions``."""
        browser = self._opened.browser
        return {"has_search_bar": browser.page is Page.START, "clickables": browser.clickables}

    def instruction_text(self) -> str:
        """Payload of ``GET /instruction_text``."""
        return self._opened.goal.text

    def results(self) -> list[str]:
        """The asins that the last search found, best first."""
        return [self._shop.products[position].asin for position in self._opened.browser.found]

    @property
    def _opened(self) -> Visit:
        if self._visit is None:
            raise EnvironmentFault(f"webshop: there is no open session in environment {self._slot}", "reset it first")
        return self._visit

    def _hidden_search(self, argument: str) -> StepResult | str | None:
        """The result of a hidden search, an error text, or ``None`` for an ordinary search."""
        mark, *words = argument.split(" ")
        products = self._shop.products
        found: Sequence[int]
        if mark == "<r>":
            drawn = python_random("webshop", "random search", self._opened.goal.text)
            found = drawn.sample(range(len(products)), min(MAX_RESULTS, len(products)))
        elif mark == "<c>":
            found = [place for place, product in enumerate(products) if product.category == "".join(words[:1])]
        elif mark == "<q>":
            found = [place for place, product in enumerate(products) if product.query == " ".join(words).strip()]
        elif mark == "<a>":
            return _ATTRIBUTE_SEARCH_FAULT
        else:
            return None
        return self._opened.show(found)
