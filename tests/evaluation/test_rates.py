from __future__ import annotations

import math

import pytest

from fedse.evaluation import macro_average, pooled, success_rate, task_weighted_average
from fedse.types import Source, StopReason, SuccessRate, Task, Trajectory


def episode(success: bool | None) -> Trajectory:
    stop = StopReason.ERROR if success is None else StopReason.DONE
    return Trajectory(Task("toy", "1"), Source.POLICY, "", (), "", success, 0.0, stop)


def rate(successes: int, episodes: int) -> SuccessRate:
    return success_rate([episode(index < successes) for index in range(episodes)])


@pytest.mark.parametrize(("successes", "episodes"), [(0, 25), (25, 25), (18, 25), (1, 1), (63, 200)])
def test_the_interval_is_wilsons(successes: int, episodes: int) -> None:
    z, n, p = 1.959963984540054, episodes, successes / episodes
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    found = rate(successes, episodes)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert found.rate == p


def test_the_interval_of_a_small_test_set_is_wide() -> None:
    assert rate(0, 25).high == pytest.approx(0.133, abs=5e-4)
    assert rate(25, 25).low == pytest.approx(0.867, abs=5e-4)


def test_seeds_that_played_the_same_tasks_do_not_multiply_the_evidence() -> None:
    twice = [rate(5, 48), rate(5, 48)]
    assert (pooled(twice).successes, pooled(twice).episodes) == (10, 96)
    assert (pooled(twice).low, pooled(twice).high) == (rate(5, 48).low, rate(5, 48).high)
    apart = pooled([rate(0, 48), success_rate([episode(None)]), rate(15, 48)])
    assert (apart.low, apart.high, apart.errors) == (rate(0, 48).low, rate(15, 48).high, 1)


def test_faults_are_counted_and_enter_no_rate() -> None:
    found = success_rate([episode(True), episode(None), episode(False), episode(None)])
    assert (found.successes, found.episodes, found.errors) == (1, 2, 2)
    assert found.rate == 0.5


def test_without_outcomes_nothing_is_known() -> None:
    found = success_rate([episode(None)])
    assert math.isnan(found.rate)
    assert (found.low, found.high) == (0.0, 1.0)


def test_averages_weigh_environments_or_tasks() -> None:
    # The Fed-SE paper's row of Qwen2.5-7B: its average of 73.2 is over all 440 tasks, not over environments.
    row = {"babyai": (84, 90), "webshop": (146, 200), "textcraft": (67, 100), "maze": (17, 25), "wordle": (8, 25)}
    rates = {name: rate(*counts) for name, counts in row.items()}
    assert task_weighted_average(rates) == pytest.approx(0.732, abs=5e-4)
    assert macro_average(rates) == pytest.approx((0.9333 + 0.73 + 0.67 + 0.68 + 0.32) / 5, abs=1e-4)


def test_averages_of_nothing_are_nan() -> None:
    assert math.isnan(macro_average({}))
    assert math.isnan(task_weighted_average({}))
    assert math.isnan(macro_average({"a": rate(1, 2), "b": success_rate([])}))
