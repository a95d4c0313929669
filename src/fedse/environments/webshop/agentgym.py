"""WebShop in AgentGym: tasks are indices of goals, and parts of it were recorded alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from fedse.environments.agentgym.counterpart import Counterpart, Session, finished
from fedse.environments.base import StepResult
from fedse.environments.webshop.environment import WebShop
from fedse.environments.webshop.files import read_catalogue, read_json
from fedse.environments.webshop.nouns import LEXICON, noun_extractor
from fedse.environments.webshop.pages import Page, Visit
from fedse.environments.webshop.products import Goal, Product
from fedse.environments.webshop.reward import score
from fedse.environments.webshop.search import MAX_RESULTS
from fedse.environments.webshop.shop import Shop
from fedse.environments.webshop.wording import parsed
from fedse.errors import EnvironmentFault
from fedse.names import unknown_name
from fedse.seeding import python_random
from fedse.types import Task


class WebShopCounterpart(Counterpart[WebShop]):
    """Numbers are indices of goals."""

    limits: ClassVar[Mapping[str, Any]] = {"max_options": None, "max_features": None}

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`; limits do not change a goal's index."""
        splits = {split: self.environment.tasks(split) for split in self.environment.shop.splits}
        return {split: {int(task.id.rpartition("/")[2]): task for task in tasks} for split, tasks in splits.items()}

    def task_of(self, number: int) -> Task:
        """A number is the index of a goal."""
        return Task(self.environment.name, f"{self.environment.shop.name}/{number}")

    def session(self, slot: int = 0) -> Session:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        environment = self.environment
        return WebShopSession(environment.shop, environment.visit, slot, parity=self.options["parity"])

    def recorded_session(self, record: Mapping[str, Any]) -> Session:
        """The recorded catalogue lies beside the recording."""
        return RecordedSession(record)

    def recorded_case(self, part: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """The one recorded part is the ``reward``."""
        if part != "reward":
            raise unknown_name("recorded part of webshop", part, ["reward"])
        return recorded_reward(record)


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


class RecordedRanking:
    """The search results that the steps of a recording note, since the engine behind it was another one."""

    def __init__(self, steps: Sequence[Mapping[str, Any]], positions: Mapping[str, int]) -> None:
        self._found: dict[str, list[int]] = {}
        for step in steps:
            verb, query = parsed(step["action"])
            if verb == "search" and "search_result_asins" in step:
                self._found[query] = [positions[asin] for asin in step["search_result_asins"]]

    def search(self, query: str) -> Sequence[int]:
        """The recorded results of a query."""
        return self._found[query]


class RecordedSession(WebShopSession):
    """A session whose payloads have the recording's fields; the catalogue lies beside the recording's file."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        shop, nouns = _shop(Path(record["folder"])), noun_extractor(LEXICON)
        ranking = RecordedRanking(record["steps"], shop.positions)

        def visit(index: int) -> Visit:
            return Visit(shop.products, ranking, shop.goals[index], nouns=nouns, parity=True)

        super().__init__(shop, visit, slot=0, parity=True)

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """The first page and what can be clicked."""
        return {"observation": super().reset(**kwargs)["observation"], "available": self.available_actions()}

    def step(self, action: str) -> dict[str, Any]:
        """The page after an action."""
        payload = super().step(action)
        if "error" in payload:
            return payload
        return {"observation": payload["state"], "reward": payload["reward"], "done": payload["done"]}

    def recorded_fields(self) -> dict[str, Any]:
        """What can be clicked and what the last search found."""
        return {"available": self.available_actions(), "search_result_asins": self.results()}


def recorded_reward(record: Mapping[str, Any]) -> dict[str, Any]:
    """Our reward, and its parts as ``info``, for a recorded purchase; nouns are those that the recording notes."""
    bought = _recorded_product(record["product"], record["price"])
    wish = record["goal"]
    options = wish["goal_options"]
    goal = Goal(
        product=_recorded_product({"Title": wish["name"], **wish}, 0.0),
        text=wish["instruction_text"],
        attributes=tuple(wish["attributes"]),
        options=options if isinstance(options, Mapping) else tuple(options),
        price_upper=wish["price_upper"],
    )
    # A product may be bought under the wanted product's very name, and then the nouns are the same.
    nouns = {bought.title: tuple(record["product_nouns"]), goal.product.title: tuple(record["goal_nouns"])}
    parts = asdict(score(bought, record["options"], goal, nouns=nouns.__getitem__, parity=True))
    return {"reward": parts.pop("reward"), "info": {name: value for name, value in parts.items() if value is not None}}


def _recorded_product(data: Mapping[str, Any], price: float) -> Product:
    return Product(
        asin=data["asin"],
        title=data["Title"],
        description=data.get("Description", ""),
        bullets=tuple(data.get("BulletPoints", ())),
        category="",
        query=data["query"],
        breadcrumb=data["product_category"],
        prices=(price,),
        price=price,
        options={},
        attributes=tuple(data.get("Attributes", ())),
    )


@functools.lru_cache(maxsize=1)
def _shop(folder: Path) -> Shop:
    prices = read_json(folder / "webshop_prices.json")
    return Shop("recorded", read_catalogue(folder, prices), benchmark=False)
