from __future__ import annotations

import itertools

import numpy as np
import pytest

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, UpdateRejectedError
from fedse.federation.aggregation import Aggregator, get_aggregator, mean, server_step
from fedse.federation.server import Server
from fedse.messages.update import ClientUpdate
from helpers.small_adapters import A_NAME, random_state, update, with_tensor

GLOBAL = random_state(0)


def server(**changes: object) -> Server:
    return Server(get_aggregator("mean"), ["a", "b", "c"], GLOBAL, **changes)


def broken(client: str) -> ClientUpdate:
    return ClientUpdate(client, 1, with_tensor(GLOBAL, A_NAME, np.full((2, 5), np.nan, np.float32)))


def test_a_round_takes_the_mean_and_counts_every_client() -> None:
    at_work = server()
    updates = [update("a", 1), update("b", 2), update("c", 3)]
    adapter = at_work.round(updates)
    assert adapter.digest == mean(GLOBAL, updates).digest
    assert at_work.adapter is adapter
    assert at_work.rounds == 1
    assert at_work.outcomes == {"a": "ok", "b": "ok", "c": "ok"}


def test_the_next_round_starts_from_the_last() -> None:
    at_work = server(server_lr=0.5)
    first = at_work.round([update("a", 1)])
    second = at_work.round([update("a", 2, round=2)])
    assert second.digest == server_step(first, random_state(2), 0.5).digest


def test_missing_and_rejected_clients_are_left_out_and_told() -> None:
    at_work = server()
    adapter = at_work.round([update("a", 1), broken("b")])
    assert adapter.digest == random_state(1).digest
    assert at_work.outcomes["a"] == "ok"
    assert at_work.outcomes["b"].startswith("rejected: ")
    assert "NaN" in at_work.outcomes["b"]
    assert at_work.outcomes["c"] == "missing"


def test_a_client_whose_training_diverged_is_left_out_and_told() -> None:
    at_work = server()
    adapter = at_work.round([update("a", 1)], diverged=["b"])
    assert adapter.digest == random_state(1).digest
    assert at_work.outcomes == {"a": "ok", "b": "diverged", "c": "missing"}


def test_a_stranger_is_rejected() -> None:
    at_work = server()
    at_work.round([update("a", 1), update("mallory", 2)])
    assert at_work.adapter.digest == random_state(1).digest
    assert at_work.outcomes["mallory"].startswith("rejected: 'mallory' is no client")


def test_a_client_that_sends_twice_is_rejected_whatever_the_order() -> None:
    for order in itertools.permutations([update("a", 1), update("a", 2), update("b", 3)]):
        at_work = server()
        assert at_work.round(order).digest == random_state(3).digest
        assert at_work.outcomes["a"].startswith("rejected: client 'a' sent 2 updates")


@pytest.mark.parametrize("updates", [[], [broken("a")], [update("a", 1, round=7)], [update("a", 1, examples=1.0)]])
def test_a_round_without_a_usable_update_changes_nothing(updates: list[ClientUpdate]) -> None:
    at_work = server()
    with pytest.raises(UpdateRejectedError, match="round 1 has no update that can be used"):
        at_work.round(updates)
    assert at_work.adapter is GLOBAL
    assert at_work.rounds == 0


def test_a_round_in_which_no_site_has_an_example_changes_no_weight() -> None:
    at_work = Server(get_aggregator("weighted_mean"), ["a", "b"], GLOBAL)
    sent_back = [ClientUpdate(client, 1, GLOBAL, {"examples": 0.0}) for client in ("a", "b")]
    assert at_work.round(sent_back).digest == GLOBAL.digest
    assert at_work.rounds == 1


def test_an_aggregator_that_breaks_the_adapter_is_found() -> None:
    def shrunk(global_: AdapterState, updates: object) -> AdapterState:
        return with_tensor(global_, A_NAME, np.ones((1, 1), np.float32))

    at_work = Server(Aggregator("shrunk", shrunk, frozenset(), ""), ["a"], GLOBAL)
    with pytest.raises(AdapterError, match="aggregator 'shrunk' made an unsound adapter"):
        at_work.round([update("a", 1)])
    assert at_work.adapter is GLOBAL
