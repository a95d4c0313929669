from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.errors import RunError
from fedse.evaluation.comparison import compare
from fedse.results.held_out import PairedRuns, pair_runs, read_held_out
from helpers.made_runs import Verdicts, make_run

EASY = {"maze": [True, True, False, True], "wordle": [True, False]}
HARD = {"maze": [False, True, False, False], "wordle": [True, False]}


class TestCompare:
    def test_each_environment_is_tested_and_the_tests_are_adjusted(self) -> None:
        a = np.zeros((1, 20, 1), dtype=np.bool_)
        b = a.copy()
        a[0, :8] = True  # eight tasks better,
        b[0, 10] = True  # one worse
        found = compare({"x": a, "y": a}, {"x": b, "y": a}, resamples=200)
        x = found.environments["x"]
        assert (x.better, x.worse, x.tasks) == (8, 1, 20)
        assert x.discordance == pytest.approx(9 / 20)
        assert x.p == pytest.approx(2 * 10 / 2**9)
        assert x.p_holm == pytest.approx(2 * x.p)
        assert found.environments["y"].p_holm == 1.0
        assert found.macro.difference.value == pytest.approx(7 / 40)

    def test_the_episodes_of_a_task_count_together_over_seeds(self) -> None:
        a = np.array([[[True], [True]], [[True], [False]], [[True], [False]]])
        b = np.array([[[False], [False]], [[False], [True]], [[True], [True]]])
        found = compare({"x": a}, {"x": b}, resamples=200)
        x = found.environments["x"]
        assert (x.better, x.worse, x.tasks, found.seeds) == (1, 1, 2, 3)  # +2 on one task, −1 on the other
        assert x.p == 1.0


def pair(
    tmp_path: Path,
    a: list[dict[str, Any]],
    b: list[dict[str, Any]],
) -> PairedRuns:
    """Pair runs given as the arguments of ``make_run``; their folders are a0, a1, …, b0, …"""
    sides = [
        [read_held_out(make_run(tmp_path / f"{letter}{index}", **run)) for index, run in enumerate(runs)]
        for letter, runs in (("a", a), ("b", b))
    ]
    return pair_runs(*sides)


def run(verdicts: Verdicts = EASY, **changes: Any) -> dict[str, Any]:
    return {"verdicts": verdicts, **changes}


class TestPairing:
    def test_the_last_round_is_read(self, tmp_path: Path) -> None:
        found = pair(tmp_path, [run(rounds=2)], [run(HARD, rounds=3)])
        assert found.a["maze"].tolist() == [[[True], [True], [False], [True]]]
        assert found.b["maze"].tolist() == [[[False], [True], [False], [False]]]
        assert found.seeds == (0,)

    def test_seeds_pair_in_whatever_order_they_are_named(self, tmp_path: Path) -> None:
        found = pair(tmp_path, [run(seed=5), run(HARD, seed=1)], [run(seed=1), run(HARD, seed=5)])
        assert found.seeds == (1, 5)
        assert found.a["maze"][:, 0, 0].tolist() == [False, True]
        assert found.b["maze"][:, 0, 0].tolist() == [True, False]

    def test_sites_that_learn_alone_count_as_one_run(self, tmp_path: Path) -> None:
        alone = [run({name: HARD[name]}, sites={name: {"demonstrations": 1}}) for name in HARD]
        found = pair(tmp_path, [run()], alone)
        assert found.b["wordle"].tolist() == [[[True], [False]]]
        assert found.b["maze"].shape == (1, 4, 1)

    def test_samples_stay_with_their_task(self, tmp_path: Path) -> None:
        sampled = {"decoding": "sampled", "samples": 2}
        found = pair(tmp_path, [run(samples=2, evaluation=sampled)], [run(HARD, samples=2, evaluation=sampled)])
        assert found.a["maze"].tolist() == [[[True, True], [False, True]]]

    def test_a_task_that_one_run_lost_to_a_fault_is_left_out_of_all(self, tmp_path: Path) -> None:
        lost = {"maze": [True, None, False, True], "wordle": [True, False]}
        found = pair(tmp_path, [run(), run(lost, seed=1)], [run(HARD), run(HARD, seed=1)])
        assert found.dropped == {"maze": 1, "wordle": 0}
        assert found.a["maze"].shape == found.b["maze"].shape == (2, 3, 1)

    def test_an_environment_without_any_whole_task_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="wordle: every task"):
            pair(tmp_path, [run()], [run(HARD | {"wordle": [None, None]})])

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"rollout": {"max_turns": 3}}, r"rollout.max_turns is None in .*a0, 3 in .*b0"),
            ({"rollout": {"max_repeats": 3}}, "rollout.max_repeats"),
            ({"evaluation": {"decoding": "sampled"}}, r"evaluation.decoding is greedy in .*a0, sampled in .*b0"),
            ({"sites": {"maze": {"options": {"parity": True}}}}, "maze was not played in the same way:\n  - options"),
            ({"sites": {"maze": {"test_split": "paper-test"}}}, "test_split is test in"),
            ({"sites": {"maze": {"max_turns": 3}}}, r"maze was .*\n  - rollout.max_turns is None in .*a0, 3 in .*b0"),
            (
                {"tasks_from": 1},
                r"maze: .*a0 has 4 held-out tasks and .*b0 has 4; 2 are in one of them only",
            ),
            ({"seed": 1}, r"different training seeds: \[0\] against \[1\]"),
        ],
    )
    def test_what_may_not_differ_is_named(self, tmp_path: Path, changes: dict[str, Any], told: str) -> None:
        with pytest.raises(RunError, match=told):
            pair(tmp_path, [run()], [run(HARD, **changes)])

    def test_a_temperature_matters_where_tasks_are_sampled(self, tmp_path: Path) -> None:
        cool = {"rollout": {"temperature": 0.5}}
        pair(tmp_path / "greedy", [run()], [run(HARD, **cool)])
        sampled = {"evaluation": {"decoding": "sampled"}}
        with pytest.raises(RunError, match=r"rollout.temperature is 1.0 in .*a0, 0.5 in"):
            pair(tmp_path / "sampled", [run(**sampled)], [run(HARD, **sampled, **cool)])

    def test_missing_environments_are_listed(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="wordle of seed 0 in B"):
            pair(tmp_path, [run()], [run({"maze": HARD["maze"]})])

    def test_a_seed_counts_once(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"a0 and .*a1 are both runs of seed 0 with maze"):
            pair(tmp_path, [run(), run()], [run(HARD)])

    def test_runs_of_one_method_may_not_mix_methods(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"method.filter is success in .*b0, none in .*b1"):
            pair(tmp_path, [run(), run(seed=1)], [run(HARD), run(HARD, seed=1, method={"filter": "none"})])
        other = run(HARD, seed=1, sites={"maze": {"demonstrations": 1}})
        with pytest.raises(RunError, match=r"clients.maze.demonstrations is 32 in"):
            pair(tmp_path / "sites", [run(), run(seed=1)], [run(HARD), other])

    def test_an_unfinished_run_is_not_compared(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="not finished: 1 of 3 rounds"):
            pair(tmp_path, [run(rounds=3, done=1)], [run(HARD)])

    def test_a_folder_without_a_run_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no run folder"):
            read_held_out(tmp_path)
