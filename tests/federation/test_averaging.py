from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError
from fedse.federation.strategies import GLOBAL, State, Strategy, Updates, make_strategy
from fedse.federation.strategies.averaging import INITIAL, server_step
from fedse.messages import Update
from helpers.small_adapters import A_NAME, random_state, update, with_tensor

BEFORE = random_state(99)


def combined(name: str, updates: Mapping[str, Update], **options: object) -> AdapterState:
    """The global adapter after a round that began from ``BEFORE``."""
    strategy = make_strategy(name, options)
    return absorbed(strategy, updates).adapter()


def absorbed(strategy: Strategy, updates: Mapping[str, Update]) -> State:
    return strategy.absorb(strategy.initial(BEFORE, dict.fromkeys(updates, 2)), Updates.of(updates))


def test_the_mean_is_the_element_wise_mean() -> None:
    updates = {"a": update(1), "b": update(2), "c": update(3)}
    mean = combined("mean", updates)
    for name, array in mean.tensors.items():
        exact = sum(u.adapter.tensors[name].astype(np.float64) for u in updates.values()) / 3
        np.testing.assert_array_equal(array, exact.astype(np.float32))
    assert mean.meta == BEFORE.meta


def test_the_weighted_mean_weighs_by_examples() -> None:
    updates = {"a": update(1, examples=1.0), "b": update(2, examples=3.0)}
    for name, array in combined("weighted_mean", updates).tensors.items():
        one, three = (u.adapter.tensors[name].astype(np.float64) for u in updates.values())
        np.testing.assert_allclose(array, (one + 3 * three) / 4, rtol=1e-7)


@pytest.mark.parametrize("name", ["mean", "weighted_mean", "isolated", "fedavgm"])
@pytest.mark.usefixtures("toy")
def test_the_order_of_replies_does_not_matter_bit_for_bit(name: str) -> None:
    # Values that cancel, so that the order of the sum shows even after rounding to float32.
    values = {"d": 1.0, "a": 2.0**60, "c": -(2.0**60), "b": 3.0}
    updates = [
        (
            site,
            Update(
                adapter=with_tensor(random_state(0), A_NAME, np.full((2, 5), value, np.float32)),
                scalars={"examples": 5.0},
            ),
        )
        for site, value in values.items()
    ]
    strategy = make_strategy(name, {})
    digests = set()
    for order in itertools.permutations(updates):
        state = absorbed(strategy, dict(order))
        digests.add(
            (
                *((key, adapter.digest) for key, adapter in sorted(state.adapters.items())),
                *((key, array.tobytes()) for key, array in sorted(state.arrays.items())),
            )
        )
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
    updates = {f"c{i}": Update(adapter=state, scalars={"examples": weight}) for i, weight in enumerate(weights)}
    assert combined(name, updates).digest == state.digest


def test_equal_weights_are_the_plain_mean_bit_for_bit() -> None:
    updates = {client: update(seed, examples=7.0) for seed, client in enumerate("abc")}
    assert combined("weighted_mean", updates).digest == combined("mean", updates).digest


def test_a_client_without_examples_weighs_nothing() -> None:
    updates = {"a": update(1, examples=0.0), "b": update(2, examples=5.0)}
    assert combined("weighted_mean", updates).digest == random_state(2).digest


def test_sites_without_any_example_count_the_same() -> None:
    updates = {site: Update(adapter=BEFORE, scalars={"examples": 0.0}) for site in "ab"}
    assert combined("weighted_mean", updates).digest == BEFORE.digest


class TestServerStep:
    def test_one_is_exactly_the_mean(self) -> None:
        assert server_step(BEFORE, random_state(1), 1.0).digest == random_state(1).digest

    def test_it_goes_along_the_mean_delta(self) -> None:
        stepped = combined("mean", {"a": update(1)}, server_lr=1.5)
        for name, array in stepped.tensors.items():
            start, end = (state.tensors[name].astype(np.float64) for state in (BEFORE, random_state(1)))
            np.testing.assert_allclose(array, start + 1.5 * (end - start), rtol=1e-6)

    def test_out_of_range_it_is_refused(self) -> None:
        huge = with_tensor(random_state(1), A_NAME, np.full((2, 5), 3e38, np.float32))
        with pytest.raises(AdapterError, match="leaves the range") as caught:
            server_step(BEFORE, huge, 2.0)
        assert "method.options.server_lr" in caught.value.mend

    def test_where_updates_restart_it_begins_from_the_initial_adapter(self) -> None:
        strategy = make_strategy("mean", {"server_lr": 1.5, "restart": True})
        state = absorbed(strategy, {"a": update(1)})
        assert state.adapters[INITIAL].digest == BEFORE.digest
        sent = strategy.instruct(state, "a")
        assert sent.adapter.digest == state.adapters[GLOBAL].digest
        assert sent.start is not None
        assert sent.start.digest == BEFORE.digest
        second = strategy.absorb(state, Updates.of({"a": update(2)}))
        assert second.adapter().digest == server_step(BEFORE, random_state(2), 1.5).digest
        assert (strategy.begins_at(5), make_strategy("mean", {}).begins_at(5)) == (0, 4)


class TestIsolated:
    def test_every_site_goes_on_from_its_own(self) -> None:
        strategy = make_strategy("isolated", {})
        state = strategy.initial(BEFORE, {"a": 2, "b": 2})
        first = strategy.absorb(state, Updates.of({"a": update(1), "b": update(2)}))
        assert GLOBAL not in first.adapters
        assert [first.adapter(site).digest for site in "ab"] == [random_state(seed).digest for seed in (1, 2)]
        assert strategy.instruct(first, "b").adapter.digest == random_state(2).digest

    def test_one_without_an_update_keeps_what_it_had(self) -> None:
        strategy = make_strategy("isolated", {})
        state = strategy.absorb(strategy.initial(BEFORE, {"a": 2, "b": 2}), Updates.of({"a": update(1)}))
        assert state.adapter("b").digest == BEFORE.digest
