from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.evaluation.rates import wilson_interval
from fedse.results.held_out import HeldOut, read_held_out
from fedse.results.method_rates import MethodRates, method_rates
from fedse.types import SuccessRate
from helpers.made_runs import Verdicts, make_run

QUARTER = [True, False, False, False]
SAMPLED = {"decoding": "sampled", "samples": 4}


def runs(folder: Path, *verdicts: Verdicts, **settings: Any) -> list[HeldOut]:
    """One run for each of the verdicts, with seeds 0, 1, …"""
    return [
        read_held_out(make_run(folder / str(seed), given, seed=seed, **settings)) for seed, given in enumerate(verdicts)
    ]


def rates(*verdicts: Verdicts) -> dict[str, list[SuccessRate]]:
    return {name: [counted(given[name]) for given in verdicts] for name in verdicts[0]}


def counted(verdicts: Any) -> SuccessRate:
    known = [verdict for verdict in verdicts if verdict is not None]
    low, high = wilson_interval(sum(known), len(known))
    return SuccessRate(sum(known), len(known), len(verdicts) - len(known), low, high)


def found(folder: Path, *verdicts: Verdicts, **settings: Any) -> MethodRates:
    return method_rates(rates(*verdicts), runs(folder, *verdicts, **settings))


def width(rate: SuccessRate) -> float:
    return rate.high - rate.low


def test_one_episode_a_task_has_wilsons_interval(tmp_path: Path) -> None:
    verdicts = {"maze": QUARTER * 5}
    assert found(tmp_path, verdicts).environments["maze"] == counted(verdicts["maze"])


def test_a_second_seed_on_the_same_tasks_that_agrees_adds_no_evidence(tmp_path: Path) -> None:
    verdicts = {"maze": QUARTER * 5}
    one = width(counted(verdicts["maze"]))
    both = found(tmp_path, verdicts, verdicts).environments["maze"]
    assert (both.successes, both.episodes) == (10, 40)
    assert width(both) == pytest.approx(one, rel=0.15)
    assert width(both) > 1.2 * width(counted(verdicts["maze"] * 2))  # as if they were 40 tasks


def test_samples_of_a_task_that_agree_add_no_evidence(tmp_path: Path) -> None:
    verdicts = {"maze": [verdict for verdict in QUARTER * 5 for _ in range(4)]}
    sampled = found(tmp_path, verdicts, samples=4, evaluation=SAMPLED).environments["maze"]
    assert (sampled.successes, sampled.episodes) == (20, 80)
    assert width(sampled) == pytest.approx(width(counted(QUARTER * 5)), rel=0.15)
    assert width(sampled) > 1.5 * width(counted(verdicts["maze"]))


@pytest.mark.parametrize("success", [False, True])
def test_where_all_came_out_the_same_the_number_of_tasks_makes_the_interval(tmp_path: Path, success: bool) -> None:
    verdicts = {"maze": [success] * 80}
    sampled = found(tmp_path, verdicts, samples=4, evaluation=SAMPLED).environments["maze"]
    assert (sampled.low, sampled.high) == wilson_interval(20 * success, 20)
    seeds = found(tmp_path / "seeds", verdicts, verdicts).environments["maze"]
    assert (seeds.low, seeds.high) == wilson_interval(80 * success, 80)


def test_no_rate_lies_outside_its_interval(tmp_path: Path) -> None:
    faults = {"maze": [True] * 10 + [None] * 30}
    rare = {"maze": [True] * 10 + [False] * 30}
    both = found(tmp_path, faults, rare)
    assert both.dropped == {"maze": 30}
    assert both.macro is not None
    assert both.macro.value == 1  # of the ten tasks that both have played
    rate = both.environments["maze"]
    assert rate.rate == 20 / 50
    assert (rate.low, rate.high) == wilson_interval(4, 10)


def test_means_that_cannot_be_had_are_explained_and_the_rates_stay(tmp_path: Path) -> None:
    lost = {"maze": [None] * 4, "wordle": QUARTER}
    told = found(tmp_path, lost)
    assert told.macro is None
    assert "every task lost an episode" in told.obstacle
    assert told.environments["wordle"] == counted(QUARTER)


def test_without_episodes_the_interval_reaches_over_those_of_the_runs() -> None:
    few, many = {"maze": [False] * 20}, {"maze": [True] * 8 + [False] * 12}
    told = method_rates(rates(few, many), [])
    assert told.macro is None
    rate = told.environments["maze"]
    assert (rate.rate, rate.low, rate.high) == (0.2, 0.0, counted(many["maze"]).high)
