"""WebShop behind AgentGym's payloads speaks as the original server does, faults included where they are asked for."""

from __future__ import annotations

import pytest

from fedse.environments import make
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.webshop import WebShop
from fedse.errors import EnvironmentFault


def test_sessions_speak_as_the_original_server() -> None:
    session = counterpart_of(WebShop()).session(slot=7)
    assert "no open session in environment 7" in session.step("search[a]")["error"]
    with pytest.raises(EnvironmentFault, match="no open session"):
        session.observation()
    first = session.reset(session_id=0)
    assert list(first) == ["observation", "info"]
    assert first["info"] is None
    assert session.available_actions() == {"has_search_bar": True, "clickables": ["search"]}
    assert session.instruction_text() in first["observation"]
    payload = session.step("nonsense")
    assert payload == {"state": payload["state"], "reward": 0, "done": False, "info": None}
    assert "Write search[words]" in payload["state"]
    assert session.observation() == first["observation"]
    assert isinstance(payload["reward"], int)
    payload = session.step("search[women's dresses]")
    assert isinstance(payload["reward"], float)
    assert session.observation() == payload["state"]
    assert session.available_actions()["clickables"][2] == session.results()[0].lower()
    session.step(f"click[{session.results()[0]}]")
    assert session.step("click[buy now]")["done"] is True
    assert session.step("search[more]") == {"error": "The task with environment 7 has finished."}
    assert "observation" in session.reset(session_id=1)
    for index in (-1, 10**6, "one", None):
        assert f"There is no goal {index!r}" in session.reset(session_id=index)["error"]


def test_in_parity_sessions_keep_hidden_searches_and_go_on_after_the_purchase() -> None:
    faithful, mended = counterpart_of(make("webshop", parity=True)).session(), counterpart_of(make("webshop")).session()
    for session in (faithful, mended):
        session.reset(session_id=0)
    products = WebShop().shop.products
    faithful.step("search[<q> women's dresses]")
    assert faithful.results() == [item.asin for item in products if item.query == "women's dresses"]
    faithful.step("search[<c> beauty]")
    assert faithful.results() == [item.asin for item in products if item.category == "beauty"]
    drawn = [faithful.step("search[<r>]")["state"] for _ in range(2)]
    assert len(faithful.results()) == 50
    assert drawn[0] == drawn[1]
    assert "TypeError" in faithful.step("search[<a> long sleeve]")["error"]
    mended.step("search[<q> women's dresses]")
    assert mended.results() == [products[place].asin for place in WebShop().shop.ranking.search("q women's dresses")]
    faithful.step(f"click[{faithful.results()[0]}]")
    assert faithful.step("click[buy now]")["done"] is True
    assert faithful.step("")["done"] is False
    assert faithful.step("search[mugs]")["done"] is False


def test_sessions_are_independent() -> None:
    shop = WebShop()
    first, second = counterpart_of(shop).session(0), counterpart_of(shop).session(1)
    before = first.reset(session_id=0)["observation"]
    second.reset(session_id=1)
    second.step("search[mugs]")
    assert first.observation() == before
