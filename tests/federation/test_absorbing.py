"""Absorbing goes over the updates once: the same mean as from all at once, in the memory of a few."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError
from fedse.federation.strategies import Updates, make_strategy
from fedse.federation.strategies.averaging import average
from fedse.messages import Purpose, Reply, Update
from helpers.small_adapters import META, random_state, update

#: A zero of each sign, the smallest subnormal, the ends of float32, and what float64 cannot sum exactly.
CORNERS = np.array([0.0, -0.0, 1e-45, -1e-45, 1.2e-38, 3.4e38, -3.4e38, 0.1, 1e-30, 16777217.0], np.float32)


def adapter(seed: int, *, rank: int = 2, width: int = 5) -> AdapterState:
    """Random values of all sizes, with corner cases among them."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in {"q_proj.lora_A.weight": (rank, width), "q_proj.lora_B.weight": (3, rank)}.items():
        values = generator.normal(size=shape) * 10.0 ** generator.integers(-44, 38, size=shape)
        corners = generator.random(shape) < 0.3
        tensors[name] = np.where(corners, generator.choice(CORNERS, size=shape), values.astype(np.float32))
    return AdapterState(tensors, META)


def all_at_once(adapters: Mapping[str, AdapterState], weights: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The mean by its definition, with every term in memory."""
    sites = sorted(adapters)
    mean = {}
    for name in adapters[sites[0]].tensors:
        terms = [weights[site] * adapters[site].tensors[name].astype(np.float64) for site in sites]
        total, weight = terms[0], weights[sites[0]]
        for term, site in zip(terms[1:], sites[1:], strict=True):
            total, weight = total + term, weight + weights[site]
        mean[name] = (total / weight).astype(np.float32)
    return mean


@given(
    seed=st.integers(0, 2**32),
    examples=st.lists(st.one_of(st.just(1.0), st.integers(1, 10**6).map(float), st.floats(1e-3, 1e300)), min_size=1),
    name=st.sampled_from(["mean", "weighted_mean"]),
)
def test_the_mean_is_that_of_all_at_once_bit_for_bit(seed: int, examples: list[float], name: str) -> None:
    sites = [f"site-{number}" for number in range(len(examples))]
    adapters = {site: adapter(seed + number) for number, site in enumerate(sites)}
    told = {site: {"examples": count} for site, count in zip(sites, examples, strict=True)}
    strategy = make_strategy(name, {})
    updates = {site: Update(adapter=adapters[site], scalars=told[site]) for site in reversed(sites)}
    state = strategy.absorb(strategy.initial(adapter(seed), {}), Updates.of(updates))
    weights = strategy.weights(told)
    assert weights is not None
    for tensor, expected in all_at_once(adapters, weights).items():
        assert state.adapter().tensors[tensor].tobytes() == expected.tobytes()


@pytest.mark.parametrize("other", [(1, 5), (2, 1)])
def test_shapes_that_numpy_would_stretch_are_refused(other: tuple[int, int]) -> None:
    with pytest.raises(AdapterError, match="have no mean"):
        average([(1.0, adapter(1)), (1.0, adapter(2, rank=other[0], width=other[1]))])


class TestUpdates:
    def test_they_come_sorted_and_are_loaded_each_time(self) -> None:
        loaded: Counter[str] = Counter()

        def load(site: str) -> Update:
            loaded[site] += 1
            return update(ord(site), examples=2.0)

        updates = Updates({site: {"examples": 2.0} for site in "cab"}, load)
        assert (list(updates), len(updates), "a" in updates, "d" in updates) == (["a", "b", "c"], 3, True, False)
        assert updates.scalars["b"] == {"examples": 2.0}
        assert loaded.total() == 0
        assert [site for site, _ in updates.items()] == ["a", "b", "c"]
        assert updates["a"].adapter.digest == random_state(ord("a")).digest
        assert loaded == {"a": 2, "b": 1, "c": 1}
        with pytest.raises(KeyError):
            updates["d"]

    @pytest.mark.parametrize("name", ["mean", "weighted_mean", "isolated"])
    def test_a_strategy_loads_each_once(self, name: str) -> None:
        loaded: Counter[str] = Counter()

        def load(site: str) -> Update:
            loaded[site] += 1
            return update(ord(site), examples=2.0)

        strategy, scalars = make_strategy(name, {}), {site: {"examples": 2.0} for site in "abc"}
        strategy.absorb(strategy.initial(random_state(0), {}), Updates(scalars, load))
        assert loaded == {"a": 1, "b": 1, "c": 1}


def peak_of(count: int, folder: Path) -> int:
    """The most bytes that absorbing the replies of so many sites from files allocates at a time."""

    def load(site: str) -> Update:
        answer = Reply.decode((folder / site).read_bytes()).answer
        assert isinstance(answer, Update)
        return answer

    scalars = {f"site-{number}": {"examples": 1.0 + number} for number in range(count)}
    for number, site in enumerate(scalars):
        answer = Update(adapter=adapter(number, rank=8, width=1000), scalars=scalars[site])
        (folder / site).write_bytes(Reply(site=site, purpose=Purpose.ROUND, round=1, answer=answer).encode())
    strategy = make_strategy("weighted_mean", {})
    state = strategy.initial(adapter(0, rank=8, width=1000), {})
    tracemalloc.start()
    try:
        strategy.absorb(state, Updates(scalars, load))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_thousand_sites_need_no_more_memory_than_ten(tmp_path: Path) -> None:
    ten, thousand = (peak_of(count, tmp_path) for count in (10, 1000))
    assert thousand <= 2 * ten
