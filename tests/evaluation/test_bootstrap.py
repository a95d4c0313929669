from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fedse.evaluation.bootstrap import interquartile_mean, macro_mean, paired_bootstrap

Outcomes = dict[str, npt.NDArray[np.bool_]]


def outcomes(seed: int, *, seeds: int = 3, rate: float = 0.6, tasks: tuple[int, ...] = (25, 100)) -> Outcomes:
    generator = np.random.default_rng(seed)
    return {f"env{index}": generator.random((seeds, count, 1)) < rate for index, count in enumerate(tasks)}


def test_the_value_is_that_of_the_data_and_lies_in_its_interval() -> None:
    a, b = outcomes(1), outcomes(2, rate=0.4)
    found = paired_bootstrap(a, b, resamples=500)
    expected = np.mean([a[name].mean() - b[name].mean() for name in a])
    assert found.macro.difference.value == pytest.approx(expected)
    assert found.macro.a.value - found.macro.b.value == pytest.approx(expected)
    for contrast in (found.macro, found.iqm, *found.environments.values()):
        assert contrast.difference.low < contrast.difference.value < contrast.difference.high


def test_identical_results_differ_by_nothing_however_resampled() -> None:
    a = outcomes(1)
    found = paired_bootstrap(a, {name: array.copy() for name, array in a.items()}, resamples=500)
    for contrast in (found.macro, found.iqm, *found.environments.values()):
        assert (contrast.difference.low, contrast.difference.value, contrast.difference.high) == (0.0, 0.0, 0.0)
        assert contrast.a.low < contrast.a.high


def test_a_constant_gain_has_no_width_because_tasks_are_drawn_for_both_methods() -> None:
    easy = np.zeros((1, 40, 2), dtype=np.bool_)
    easy[:, :20, 0] = True  # half of the tasks succeed in one of two samples
    better = easy.copy()
    better[:, :, 1] = True  # and one success more on every task
    found = paired_bootstrap({"env": better}, {"env": easy}, resamples=500)
    assert found.macro.difference.low == pytest.approx(0.5)
    assert found.macro.difference.high == pytest.approx(0.5)
    assert found.macro.a.high - found.macro.a.low > 0.1


def test_one_seed_and_one_environment_give_the_binomial_standard_error() -> None:
    hits = np.zeros((1, 100, 1), dtype=np.bool_)
    hits[:, :72] = True
    found = paired_bootstrap({"env": hits}, {"env": ~hits}, resamples=10_000)
    half = 1.96 * np.sqrt(0.72 * 0.28 / 100)
    assert found.macro.a.low == pytest.approx(0.72 - half, abs=0.015)
    assert found.macro.a.high == pytest.approx(0.72 + half, abs=0.015)


def test_seeds_are_resampled_as_whole_runs() -> None:
    """All tasks fail under one seed and succeed under the other: the only uncertainty is which seeds are drawn."""
    split = np.stack([np.zeros((50, 1), dtype=np.bool_), np.ones((50, 1), dtype=np.bool_)])
    found = paired_bootstrap({"x": split, "y": split}, {"x": split[::-1], "y": split}, resamples=2_000)
    assert (found.macro.a.low, found.macro.a.value, found.macro.a.high) == (0.0, 0.5, 1.0)
    assert found.environments["y"].difference.high == 0.0
    assert found.environments["x"].difference.low == -1.0


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    covered = 0
    for repetition in range(100):
        a = outcomes(2 * repetition, seeds=1, rate=0.7, tasks=(60, 60))
        b = outcomes(2 * repetition + 1, seeds=1, rate=0.5, tasks=(60, 60))
        difference = paired_bootstrap(a, b, resamples=400, seed=repetition).macro.difference
        covered += difference.low <= 0.2 <= difference.high
    assert 88 <= covered <= 100


def test_draws_depend_on_the_seed_alone() -> None:
    a, b = outcomes(1), outcomes(2)
    first = paired_bootstrap(a, b, resamples=300)
    assert first == paired_bootstrap(a, b, resamples=300)
    assert first != paired_bootstrap(a, b, resamples=300, seed=1)


def test_the_mean_of_tasks_counts_every_task_of_every_environment_alike() -> None:
    a, b = outcomes(1, tasks=(25, 100)), outcomes(2, rate=0.4, tasks=(25, 100))
    found = paired_bootstrap(a, b, resamples=500).task_weighted
    assert found.a.value == pytest.approx(np.concatenate([a["env0"], a["env1"]], axis=1).mean())
    assert found.difference.value == pytest.approx(found.a.value - found.b.value)
    assert found.difference.low < found.difference.value < found.difference.high


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    rates = np.array([[0.0, 0.1, 0.2, 0.3], [0.5, 0.6, 0.9, 1.0]])  # two environments, four seeds
    assert interquartile_mean(rates) == pytest.approx(np.mean([0.2, 0.3, 0.5, 0.6]))
    assert interquartile_mean(np.array([[0.0], [0.1], [0.5], [0.6], [1.0]])) == pytest.approx(0.4)
    assert interquartile_mean(np.array([[0.2], [0.6]])) == macro_mean(np.array([[0.2], [0.6]]))


def test_the_interquartile_mean_is_scipys_trimmed_mean() -> None:
    from scipy.stats import trim_mean

    generator = np.random.default_rng(0)
    for environments, seeds in ((5, 1), (5, 3), (3, 7)):
        rates = generator.random((environments, 4, seeds))
        expected = [trim_mean(rates[:, index].flatten(), 0.25) for index in range(4)]
        assert interquartile_mean(rates) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"x": (1, 3, 1)}, {"y": (1, 3, 1)}),
        ({"x": (1, 3, 1)}, {"x": (1, 4, 1)}),
        ({"x": (1, 3, 1), "y": (2, 3, 1)}, {"x": (1, 3, 1), "y": (2, 3, 1)}),
        ({"x": (1, 0, 1)}, {"x": (1, 0, 1)}),
        ({}, {}),
    ],
)
def test_outcomes_that_do_not_pair_are_refused(a: dict[str, tuple[int, ...]], b: dict[str, tuple[int, ...]]) -> None:
    sides = [{name: np.zeros(shape, dtype=np.bool_) for name, shape in side.items()} for side in (a, b)]
    with pytest.raises(ValueError, match=r"pair|seeds"):
        paired_bootstrap(*sides)
