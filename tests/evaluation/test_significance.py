from __future__ import annotations

import itertools

import numpy as np
import pytest

from fedse.errors import ConfigError
from fedse.evaluation.power import tasks_needed_paired, tasks_needed_unpaired
from fedse.evaluation.significance import holm, mcnemar_exact, sign_flip_test


class TestMcNemar:
    def test_it_takes_six_to_nothing_for_five_percent(self) -> None:
        assert mcnemar_exact(5, 0) == pytest.approx(0.0625)
        assert mcnemar_exact(6, 0) == mcnemar_exact(0, 6) == pytest.approx(0.03125)

    def test_without_disagreement_there_is_no_evidence(self) -> None:
        assert mcnemar_exact(0, 0) == mcnemar_exact(4, 4) == 1.0

    @pytest.mark.parametrize(("better", "worse"), [(1, 0), (3, 9), (17, 4), (40, 61)])
    def test_it_agrees_with_statsmodels(self, better: int, worse: int) -> None:
        from statsmodels.stats.contingency_tables import mcnemar

        assert mcnemar_exact(better, worse) == pytest.approx(mcnemar([[5, better], [worse, 7]], exact=True).pvalue)


class TestSignFlips:
    def test_one_episode_per_task_is_mcnemars_test(self) -> None:
        differences = np.array([1] * 9 + [-1] * 2 + [0] * 14)
        assert sign_flip_test(differences) == mcnemar_exact(9, 2)

    def test_a_second_seed_that_says_the_same_adds_no_evidence(self) -> None:
        differences = np.array([1] * 9 + [-1] * 2 + [0] * 14)
        assert sign_flip_test(2 * differences) == sign_flip_test(differences)

    def test_it_counts_all_flips(self) -> None:
        differences = np.array([3, -1, 2, 2, 0, -3, 1, 1])
        sizes = np.abs(differences)
        sums = [int(np.dot(signs, sizes)) for signs in itertools.product([-1, 1], repeat=len(sizes))]
        expected = np.mean([abs(total) >= abs(differences.sum()) for total in sums])
        assert sign_flip_test(differences) == pytest.approx(expected)

    def test_the_order_of_the_methods_does_not_matter(self) -> None:
        differences = np.array([3, 2, 1, 1, -1, 2])
        assert sign_flip_test(differences) == sign_flip_test(-differences) < 1.0
        assert sign_flip_test(np.array([2, -1, -1])) == 1.0
        assert sign_flip_test(np.zeros(4, dtype=np.int64)) == 1.0


class TestHolm:
    def test_p_values_are_multiplied_by_the_hypotheses_left(self) -> None:
        found = holm({"a": 0.04, "b": 0.01, "c": 0.03})
        assert found == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
        assert list(found) == ["a", "b", "c"]

    def test_it_agrees_with_statsmodels(self) -> None:
        from statsmodels.stats.multitest import multipletests

        p_values = [0.2, 0.011, 0.9, 0.04, 0.011]
        found = holm({str(index): p for index, p in enumerate(p_values)})
        assert list(found.values()) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


class TestPower:
    @pytest.mark.parametrize(
        ("rate", "five", "ten"), [(0.5, 1565, 388), (0.65, 1377, 329), (0.7, 1251, 294), (0.8, 906, 199)]
    )
    def test_tasks_of_unpaired_methods(self, rate: float, five: int, ten: int) -> None:
        assert tasks_needed_unpaired(rate, 0.05) == five
        assert tasks_needed_unpaired(rate, 0.1) == ten

    @pytest.mark.parametrize(
        ("discordance", "gain", "tasks"),
        [
            (0.1, 0.05, 312),
            (0.15, 0.05, 469),
            (0.2, 0.05, 626),
            (0.3, 0.05, 940),
            (0.15, 0.1, 116),
            (0.2, 0.1, 155),
            (0.3, 0.1, 234),
        ],
    )
    def test_tasks_of_paired_methods(self, discordance: float, gain: float, tasks: int) -> None:
        assert tasks_needed_paired(discordance, gain) == tasks

    def test_more_certainty_needs_more_tasks(self) -> None:
        assert tasks_needed_paired(0.2, 0.05, power=0.9) > tasks_needed_paired(0.2, 0.05)
        assert tasks_needed_unpaired(0.5, 0.05, alpha=0.01) > tasks_needed_unpaired(0.5, 0.05)

    def test_what_cannot_be_is_told(self) -> None:
        with pytest.raises(ConfigError, match="rate of 98 %"):
            tasks_needed_unpaired(0.98, 0.05)
        with pytest.raises(ConfigError, match="cannot differ by 30 points"):
            tasks_needed_paired(0.2, 0.3)
        with pytest.raises(ConfigError, match="between 0 and 1"):
            tasks_needed_paired(0.2, 0.1, power=1.0)
