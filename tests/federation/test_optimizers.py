"""Server optimizers beside their formulas."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies import State, Updates, make_strategy
from fedse.federation.strategies.stepping import STEP, distance, flat
from fedse.messages import Update
from helpers.small_adapters import random_state

BEFORE = random_state(99)


def after_rounds(name: str, rounds: int, **options: Any) -> list[State]:
    """The states of some rounds of two sites, from BEFORE; the updates are the same whatever the strategy."""
    strategy = make_strategy(name, options)
    states = [strategy.initial(BEFORE, dict.fromkeys("ab", 2))]
    for number in range(rounds):
        updates = {site: Update(adapter=random_state(2 * number + index)) for index, site in enumerate("ab")}
        states.append(strategy.absorb(states[-1], Updates.of(updates)))
    return states


def mean_change(before: AdapterState, number: int) -> np.ndarray:
    return (flat(random_state(2 * number)) + flat(random_state(2 * number + 1))) / 2 - flat(before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedavgm", {"beta": 0.0, "server_lr": 1.0}),
        ("fedadam", {"beta1": 0.0, "beta2": 0.0, "tau": 1e3, "server_lr": 1e3}),
        ("fedyogi", {"beta1": 0.0, "tau": 1e3, "server_lr": 2e3}),  # √v + τ is 2τ, as v begins as τ²
    ],
)
def test_without_a_memory_it_is_the_mean(name: str, options: Mapping[str, float]) -> None:
    for ours, mean in zip(after_rounds(name, 3, **options), after_rounds("mean", 3), strict=True):
        np.testing.assert_allclose(flat(ours.adapter()), flat(mean.adapter()), atol=1e-2)


def test_momentum_is_the_decayed_sum_of_the_mean_changes() -> None:
    states = after_rounds("fedavgm", 3, beta=0.5, server_lr=0.3)
    momentum: Any = 0.0
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        momentum = 0.5 * momentum + mean_change(before.adapter(), number)
        np.testing.assert_allclose(flat(after.adapter()), flat(before.adapter()) + 0.3 * momentum, atol=1e-5)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_adaptive_steps_follow_their_formula(name: str) -> None:
    tau, rate = 0.05, 0.2
    states = after_rounds(name, 4, beta1=0.8, beta2=0.7, tau=tau, server_lr=rate)
    first: Any = 0.0
    second: Any = tau**2
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        delta = mean_change(before.adapter(), number)
        first = 0.8 * first + 0.2 * delta
        if name == "fedadam":
            second = 0.7 * second + 0.3 * delta**2
        else:
            second = second - 0.3 * delta**2 * np.sign(second - delta**2)
        assert (second >= 0).all()
        expected = flat(before.adapter()) + rate * first / (np.sqrt(second) + tau)
        np.testing.assert_allclose(flat(after.adapter()), expected, atol=1e-4)


def test_yogi_forgets_large_squares_more_slowly() -> None:
    def squares(name: str) -> float:
        strategy = make_strategy(name, {"beta2": 0.9})
        state = strategy.initial(BEFORE, {"a": 2})
        for adapter in (random_state(1), *[None] * 5):  # one large change, then none
            update = Update(adapter=adapter or state.adapter())
            state = strategy.absorb(state, Updates.of({"a": update}))
        return max(float(np.max(array)) for key, array in state.arrays.items() if key.startswith("squares/"))

    assert squares("fedyogi") > 1.5 * squares("fedadam")


def test_momentum_may_choose_its_step() -> None:
    states = after_rounds("fedavgm", 2, server_lr="auto")
    for before, after in itertools.pairwise(states):
        assert 1 <= after.numbers[STEP] <= math.sqrt(2)
        assert distance(before.adapter(), after.adapter()) > 0


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("fedavgm", {"beta": 1.0}, "beta is 1"),
        ("fedadam", {"beta1": -0.1}, "beta1 is -0.1"),
        ("fedyogi", {"beta2": 1.0}, "beta2 is 1"),
        ("fedadam", {"tau": 0.0}, "tau is 0"),
        ("fedadam", {"server_lr": "auto"}, "server_lr"),
        ("fedavgm", {"restart": True}, "cannot restart"),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make_strategy(name, options)
