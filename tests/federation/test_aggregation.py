from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError, ConfigError, UnknownNameError
from fedse.federation.aggregation import (
    aggregator,
    aggregator_names,
    get_aggregator,
    mean,
    registry,
    server_step,
    weighted_mean,
)
from fedse.messages.update import ClientUpdate
from helpers.small_adapters import A_NAME, random_state, update, with_tensor

GLOBAL = random_state(99)


def test_the_mean_is_the_element_wise_mean() -> None:
    updates = [update("a", 1), update("b", 2), update("c", 3)]
    combined = mean(GLOBAL, updates)
    for name, array in combined.tensors.items():
        exact = sum(u.adapter.tensors[name].astype(np.float64) for u in updates) / 3
        np.testing.assert_array_equal(array, exact.astype(np.float32))
    assert combined.meta == GLOBAL.meta


def test_the_weighted_mean_weighs_by_examples() -> None:
    updates = [update("a", 1, examples=1.0), update("b", 2, examples=3.0)]
    combined = weighted_mean(GLOBAL, updates)
    for name, array in combined.tensors.items():
        one, three = (u.adapter.tensors[name].astype(np.float64) for u in updates)
        np.testing.assert_allclose(array, (one + 3 * three) / 4, rtol=1e-7)


@pytest.mark.parametrize("name", ["mean", "weighted_mean"])
def test_the_order_of_clients_does_not_matter_bit_for_bit(name: str) -> None:
    # Values that cancel, so that the order of the sum shows even after rounding to float32.
    values = {"d": 1.0, "a": 2.0**60, "c": -(2.0**60), "b": 3.0}
    updates = [
        ClientUpdate(client, 1, with_tensor(random_state(0), A_NAME, np.full((2, 5), value)), {"examples": 5.0})
        for client, value in values.items()
    ]
    digests = {get_aggregator(name).combine(GLOBAL, order).digest for order in itertools.permutations(updates)}
    assert len(digests) == 1


@given(
    seed=st.integers(0, 2**32),
    weights=st.lists(st.floats(1e-3, 1e300), min_size=1, max_size=9),
    name=st.sampled_from(["mean", "weighted_mean"]),
)
def test_equal_adapters_average_to_themselves_bit_for_bit(seed: int, weights: list[float], name: str) -> None:
    state = with_tensor(
        random_state(seed),
        A_NAME,
        np.array([[0.0, -0.0, 1e-45, 3.4e38, -1e-38], [1.1, -7.7, 1e20, -3e-30, 0.3]], np.float32),
    )
    updates = [ClientUpdate(f"c{i}", 1, state, {"examples": weight}) for i, weight in enumerate(weights)]
    assert get_aggregator(name).combine(GLOBAL, updates).digest == state.digest


def test_equal_weights_are_the_plain_mean_bit_for_bit() -> None:
    updates = [update(client, seed, examples=7.0) for seed, client in enumerate("abc")]
    assert weighted_mean(GLOBAL, updates).digest == mean(GLOBAL, updates).digest


def test_a_client_without_examples_weighs_nothing() -> None:
    updates = [update("a", 1, examples=0.0), update("b", 2, examples=5.0)]
    assert weighted_mean(GLOBAL, updates).digest == random_state(2).digest


def test_a_server_step_of_one_is_exactly_the_mean() -> None:
    assert server_step(GLOBAL, random_state(1), 1.0).digest == random_state(1).digest


def test_a_server_step_goes_along_the_mean_delta() -> None:
    stepped = server_step(GLOBAL, random_state(1), 1.5)
    for name, array in stepped.tensors.items():
        start, end = (state.tensors[name].astype(np.float64) for state in (GLOBAL, random_state(1)))
        np.testing.assert_allclose(array, start + 1.5 * (end - start), rtol=1e-6)


def test_a_server_step_out_of_range_is_refused() -> None:
    huge = with_tensor(random_state(1), A_NAME, np.full((2, 5), 3e38, np.float32))
    with pytest.raises(AdapterError, match="leaves the range"):
        server_step(GLOBAL, huge, 2.0)


def test_aggregators_declare_their_scalars_and_their_source() -> None:
    assert {"mean", "weighted_mean"} <= set(aggregator_names())
    assert get_aggregator("mean").needs == frozenset()
    assert get_aggregator("weighted_mean").needs == {"examples"}
    assert "2512.08870" in get_aggregator("mean").citation


def test_an_unknown_aggregator_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean weighted_mean"):
        get_aggregator("weigthed_mean")


def test_a_third_party_aggregator_can_be_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @aggregator("first", citation="none", needs=("loss",))
    def first(global_: AdapterState, updates: object) -> AdapterState:
        return global_

    assert get_aggregator("first").combine is first
    with pytest.raises(ConfigError, match="already"):
        aggregator("first", citation="none")(first)
