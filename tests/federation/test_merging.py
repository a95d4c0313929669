"""Rules on the changes of both factors, beside references that have all of them in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from peft.utils import merge_utils

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies import State, Updates, held, make_strategy, stack
from fedse.federation.strategies.cagrad import averse_weights
from fedse.federation.strategies.pcgrad import OPPOSED, projected
from fedse.federation.strategies.stepping import distance, flat, unflat
from fedse.messages import Update
from helpers.small_adapters import random_state

BEFORE = random_state(99)
SIZE = flat(BEFORE).size
NAMES = ("ties", "dare", "pcgrad", "cagrad")


def moved(change: Sequence[float] | np.ndarray) -> AdapterState:
    """BEFORE and a change; one that is short is filled up with zeros."""
    return unflat(flat(BEFORE) + np.pad(np.asarray(change, dtype=np.float64), (0, SIZE - len(change))), BEFORE)


def absorbed(name: str, adapters: Sequence[AdapterState], **options: object) -> State:
    strategy = make_strategy(name, options)
    updates = {f"s{index}": Update(adapter=adapter) for index, adapter in enumerate(adapters)}
    return strategy.absorb(strategy.initial(BEFORE, dict.fromkeys(updates, 2)), Updates.of(updates))


def change(state: State) -> np.ndarray:
    return flat(state.adapter()) - flat(BEFORE)


def changes(adapters: Sequence[AdapterState]) -> np.ndarray:
    return np.stack([flat(adapter) - flat(BEFORE) for adapter in adapters])


@pytest.fixture(params=["in memory", "in a file"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values at once; and, where updates lie in a file, nothing in memory."""
    monkeypatch.setattr(stack, "_AT_ONCE", 12)
    if request.param == "in a file":
        monkeypatch.setattr(held, "_IN_MEMORY", 0)


UPDATES = [random_state(seed) for seed in range(4)]


@pytest.mark.parametrize("name", NAMES)
class TestAll:
    def test_equal_updates_make_that_update(self, name: str) -> None:
        options = {"density": 1.0} if name in ("ties", "dare") else {"c": 0.0} if name == "cagrad" else {}
        state = absorbed(name, [random_state(1)] * 3, **options)
        assert distance(random_state(1), state.adapter()) < 1e-6

    def test_the_order_of_replies_does_not_matter_bit_for_bit(self, name: str) -> None:
        strategy = make_strategy(name, {})
        start = strategy.initial(BEFORE, dict.fromkeys("abc", 2))
        updates = {site: Update(adapter=random_state(ord(site))) for site in "abc"}
        digests = {
            strategy.absorb(start, Updates.of(dict(order))).adapter().digest
            for order in itertools.permutations(updates.items())
        }
        assert len(digests) == 1

    def test_the_same_round_gives_the_same_bits_wherever_updates_lie(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = absorbed(name, UPDATES).adapter()
        monkeypatch.setattr(held, "_IN_MEMORY", 0)
        assert absorbed(name, UPDATES).adapter().digest == first.digest

    def test_it_takes_the_servers_step(self, name: str) -> None:
        whole, half = (change(absorbed(name, UPDATES, server_lr=step)) for step in (1.0, 0.5))
        np.testing.assert_allclose(half, 0.5 * whole, atol=1e-6)


@pytest.mark.usefixtures("place")
class TestTies:
    @pytest.mark.parametrize("density", [0.2, 0.5, 0.99])
    def test_it_is_what_peft_computes(self, density: float) -> None:
        ours = change(absorbed("ties", UPDATES, density=density))
        tensors = [torch.tensor(one) for one in changes(UPDATES)]
        theirs = merge_utils.ties(tensors, torch.ones(len(tensors), dtype=torch.float64), density)
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)

    def test_where_signs_agree_it_is_the_mean_of_what_is_kept(self) -> None:
        adapters = [moved([3, 1, 0, -2]), moved([1, -4, 2, 0])]
        np.testing.assert_allclose(change(absorbed("ties", adapters, density=1.0))[:4], [2, -4, 2, -2], rtol=1e-6)


class TestDare:
    def test_its_expectation_is_the_mean(self) -> None:
        adapters = [moved(np.full(SIZE, 1.0 + index)) for index in range(200)]
        found = change(absorbed("dare", adapters, density=0.25))
        error = math.sqrt(np.mean((1.0 + np.arange(200)) ** 2) * 3 / 200)  # standard error of every coordinate
        assert abs(found.mean() - 100.5) < 4 * error / math.sqrt(SIZE)
        assert found.std() == pytest.approx(error, rel=0.4)

    def test_of_one_update_the_kept_values_are_made_larger(self) -> None:
        found = change(absorbed("dare", [moved(np.full(SIZE, 2.0))], density=0.5))
        assert {round(float(value), 4) for value in found} == {0.0, 4.0}

    def test_all_is_kept_with_density_one_bit_for_bit(self) -> None:
        assert absorbed("dare", UPDATES, density=1.0).adapter().digest == absorbed("mean", UPDATES).adapter().digest

    def test_another_round_and_another_site_drop_other_values(self) -> None:
        adapter = moved(np.full(SIZE, 2.0))
        one = change(absorbed("dare", [adapter]))
        both = change(absorbed("dare", [adapter, adapter]))
        assert {round(float(value), 4) for value in both} == {0.0, 2.0, 4.0}
        strategy = make_strategy("dare", {})
        state = strategy.initial(random_state(7), {"s0": 2})
        updated = unflat(flat(random_state(7)) + 2.0, BEFORE)
        after = strategy.absorb(state, Updates.of({"s0": Update(adapter=updated)}))
        assert ((flat(after.adapter()) - flat(random_state(7)) > 1) != (one > 1)).any()


def surgery(vectors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """PCGrad on the vectors themselves."""
    found = []
    for index, vector in enumerate(vectors):
        left = vector.copy()
        for other in generator.permutation(len(vectors)):
            inner = left @ vectors[other]
            if other != index and inner < 0:
                left -= inner / (vectors[other] @ vectors[other]) * vectors[other]
        found.append(left)
    return np.stack(found)


class TestPCGrad:
    @pytest.mark.parametrize("seed", range(5))
    def test_told_by_inner_products_it_is_that_of_the_vectors(self, seed: int) -> None:
        vectors = np.random.default_rng(seed).normal(size=(6, 9))
        coefficients, opposed = projected(vectors @ vectors.T, np.random.default_rng(seed))
        np.testing.assert_allclose(coefficients @ vectors, surgery(vectors, np.random.default_rng(seed)), atol=1e-12)
        assert opposed > 0.2

    @pytest.mark.usefixtures("place")
    def test_of_two_opposed_updates_neither_is_harmed(self) -> None:
        adapters = [moved([1.0, 0.5]), moved([-1.0, 0.8])]
        state = absorbed("pcgrad", adapters)
        both = changes(adapters)
        np.testing.assert_allclose(change(state), surgery(both, np.random.default_rng(0)).mean(axis=0), atol=1e-6)
        assert (both @ change(state) >= 0).all()
        assert state.numbers == {OPPOSED: 1.0}

    def test_without_opposed_updates_it_is_the_mean(self) -> None:
        adapters = [moved([1.0, 0.0]), moved([1.0, 1.0]), moved([0.0, 1.0])]
        state = absorbed("pcgrad", adapters)
        assert distance(state.adapter(), absorbed("mean", adapters).adapter()) < 1e-6
        assert state.numbers == {OPPOSED: 0.0}


class TestCAGrad:
    def dual(self, gram: np.ndarray, weights: np.ndarray, c: float) -> float:
        even = np.full(len(gram), 1 / len(gram))
        return weights @ gram @ even + c * math.sqrt(even @ gram @ even) * math.sqrt(weights @ gram @ weights)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
    def test_its_change_serves_all_as_well_as_the_dual_problem_allows(self, seed: int, scale: float) -> None:
        """Strong duality: min_k ⟨D_k, d⟩ of the change is the least value of the dual objective."""
        vectors = scale * np.random.default_rng(seed).normal(size=(4, 12))
        gram, c = vectors @ vectors.T, 0.5
        d, mean = averse_weights(gram, c) @ vectors, vectors.mean(axis=0)
        assert np.linalg.norm(d - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-6)
        draws = np.random.default_rng(0).dirichlet(np.full(4, 0.7), size=4000)
        least = min(self.dual(gram, weights, c) for weights in draws)
        worst = (vectors @ d).min()
        assert worst <= least + 1e-9 * scale**2
        assert worst == pytest.approx(least, abs=0.05 * np.trace(gram) / 4)
        assert worst >= (vectors @ mean).min()

    @pytest.mark.usefixtures("place")
    def test_the_adapter_moves_by_that_change(self) -> None:
        both = changes(UPDATES)
        np.testing.assert_allclose(
            change(absorbed("cagrad", UPDATES, c=0.4)), averse_weights(both @ both.T, 0.4) @ both, atol=1e-5
        )

    def test_with_c_of_zero_it_is_the_mean(self) -> None:
        assert distance(absorbed("cagrad", UPDATES, c=0.0).adapter(), absorbed("mean", UPDATES).adapter()) < 1e-6

    def test_where_updates_cancel_out_nothing_moves(self) -> None:
        assert np.abs(change(absorbed("cagrad", [moved([1.0]), moved([-1.0])]))).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("ties", {"density": 0.0}, "density is 0"),
        ("dare", {"density": 1.5}, "density is 1.5"),
        ("cagrad", {"c": -1.0}, "c is -1"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make_strategy(name, options)
