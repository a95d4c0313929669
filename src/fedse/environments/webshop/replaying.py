"""Recordings of the original WebShop, made ready for :mod:`fedse.environments.agentgym.replay`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedse.environments.webshop.files import read_catalogue, read_json
from fedse.environments.webshop.nouns import LEXICON, noun_extractor
from fedse.environments.webshop.pages import parsed
from fedse.environments.webshop.products import Goal, Product
from fedse.environments.webshop.reward import score
from fedse.environments.webshop.session import WebShopSession
from fedse.environments.webshop.shop import Shop
from fedse.environments.webshop.visit import Visit


class RecordedRanking:
    """The search results that a recording notes, since the engine behind it was another one.

    Args:
        steps: the steps of the recorded episode.
        positions: asin → position in the catalogue.
    """

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
    """A session whose payloads have the recording's fields: ``observation``, and what can be clicked.

    Args:
        record: the recorded episode, with the ``folder`` of its file; the catalogue lies beside the file.
    """

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
    return {
        "reward": parts.pop("reward"),
        "info": {name: value for name, value in parts.items() if value is not None},
    }


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
