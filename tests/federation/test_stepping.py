"""The server's step: set, chosen by itself, and on sums; and sites that are pulled back to where they began."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedse.adapters.algebra import conflict, factor_gram
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.run import run
from fedse.federation.strategies import Updates, make_strategy
from fedse.federation.strategies.averaging import average, server_step
from fedse.federation.strategies.stepping import KAPPA, STEP, distance
from fedse.messages import Update
from fedse.runs.layout import RunFolder
from fedse.runs.rounds import load_state
from helpers.small_adapters import A_NAME, META, SHAPES, random_state, update
from helpers.toy_runs import toy_config
from helpers.toy_runs import update as sent_in

BEFORE = random_state(99)


def along(site: int, length: float = 1.0) -> AdapterState:
    """BEFORE, moved in a direction of a site's own."""
    moved = BEFORE.tensors[A_NAME].copy()
    moved.flat[site] += np.float32(length)
    return AdapterState({**BEFORE.tensors, A_NAME: moved}, META)


def absorbed(name: str, adapters: list[AdapterState], **options: object):
    strategy = make_strategy(name, options)
    updates = {
        f"s{index}": Update(adapter=adapter, scalars={"examples": 1.0}) for index, adapter in enumerate(adapters)
    }
    return strategy.absorb(strategy.initial(BEFORE, dict.fromkeys(updates, 2)), Updates.of(updates))


class TestAuto:
    @pytest.mark.parametrize("sites", [1, 2, 5, 9])
    def test_orthogonal_updates_get_a_step_of_the_root_of_their_number(self, sites: int) -> None:
        state = absorbed("mean", [along(site) for site in range(sites)], server_lr="auto")
        assert state.numbers[KAPPA] == pytest.approx(1 / math.sqrt(sites), rel=1e-6)
        assert state.numbers[STEP] == pytest.approx(math.sqrt(sites), rel=1e-6)
        assert distance(BEFORE, state.adapter()) == pytest.approx(1.0, rel=1e-5)

    def test_equal_updates_get_a_step_of_one(self) -> None:
        state = absorbed("mean", [random_state(1)] * 3, server_lr="auto")
        assert state.numbers[STEP] == pytest.approx(1.0)
        assert distance(random_state(1), state.adapter()) < 1e-5

    def test_the_step_is_never_below_one_nor_above_the_root_of_the_number_of_sites(self) -> None:
        opposed = absorbed("mean", [along(0), along(0, -0.9), along(0, -0.05)], server_lr="auto")
        assert 1 / opposed.numbers[KAPPA] > 3
        assert opposed.numbers[STEP] == pytest.approx(math.sqrt(3))
        cancelled = absorbed("mean", [along(0), along(0, -1.0)], server_lr="auto")
        assert cancelled.numbers == {KAPPA: pytest.approx(0, abs=1e-6), STEP: pytest.approx(math.sqrt(2))}
        total = absorbed("sum", [along(0), along(1)], server_lr="auto")
        assert total.numbers == {KAPPA: pytest.approx(math.sqrt(2), rel=1e-5), STEP: 1.0}

    def test_where_nobody_moved_nothing_moves(self) -> None:
        state = absorbed("mean", [BEFORE, BEFORE], server_lr="auto")
        assert state.adapter().digest == BEFORE.digest

    @pytest.mark.parametrize("name", ["mean", "weighted_mean"])
    def test_kappa_is_the_dilution_that_diagnostics_tell(self, name: str) -> None:
        adapters = [random_state(seed) for seed in range(4)]
        state = absorbed(name, adapters, server_lr="auto")
        gram = factor_gram(BEFORE, adapters, "A") + factor_gram(BEFORE, adapters, "B")
        assert state.numbers[KAPPA] == pytest.approx(conflict(gram).dilution, rel=1e-6)
        stepped = server_step(BEFORE, average((1.0, one) for one in adapters), state.numbers[STEP])
        assert state.adapter().digest == stepped.digest

    def test_updates_are_loaded_once(self) -> None:
        loaded: Counter[str] = Counter()

        def load(site: str) -> Update:
            loaded[site] += 1
            return update(ord(site))

        strategy = make_strategy("mean", {"server_lr": "auto"})
        strategy.absorb(strategy.initial(BEFORE, {}), Updates({site: {} for site in "abc"}, load))
        assert loaded == dict.fromkeys("abc", 1)

    def test_the_shared_block_of_owners_has_it_too(self) -> None:
        strategy = make_strategy("owned", {"own": 0.5, "moments": 0, "server_lr": "auto"})
        state = strategy.initial(BEFORE, dict.fromkeys("ab", 2))
        updates = {}
        for index, site in enumerate("ab"):
            base = strategy.instruct(state, site).base
            moved = base.tensors[A_NAME].copy()
            moved[0, index] += 1
            updates[site] = Update(adapter=AdapterState({**base.tensors, A_NAME: moved}, base.meta))
        after = strategy.absorb(state, Updates.of(updates))
        assert after.numbers[STEP] == pytest.approx(math.sqrt(2))
        np.testing.assert_allclose(
            after.adapter().tensors[A_NAME][0, :2], BEFORE.tensors[A_NAME][0, :2] + np.sqrt(0.5), rtol=1e-5
        )


@pytest.mark.parametrize("server_lr", [0, -1.0, "fast", math.inf, math.nan])
def test_a_step_that_is_none_is_refused(server_lr: object) -> None:
    with pytest.raises(ConfigError, match="server_lr"):
        make_strategy("mean", {"server_lr": server_lr})


def test_the_sum_is_the_sum_of_the_changes() -> None:
    adapters = [random_state(seed) for seed in range(3)]
    state = absorbed("sum", adapters, server_lr=0.5)
    for name in SHAPES:
        start, *ends = (one.tensors[name].astype(np.float64) for one in (BEFORE, *adapters))
        exact = start + 0.5 * sum(end - start for end in ends)
        np.testing.assert_allclose(state.adapter().tensors[name], exact, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("toy", "without_flushing")
class TestRuns:
    def test_the_step_is_noted_with_every_round(self, tmp_path: Path) -> None:
        run(toy_config(method={"options": {"server_lr": "auto"}}), tmp_path)
        before, after = (load_state(RunFolder(tmp_path).server, number) for number in (1, 2))
        updates = [sent_in(tmp_path, 2, site) for site in ("alpha", "beta")]
        gram = sum(factor_gram(before.adapter(), updates, factor) for factor in ("A", "B"))
        assert after.numbers[KAPPA] == pytest.approx(conflict(gram).dilution, rel=1e-5)
        assert 1 <= after.numbers[STEP] <= math.sqrt(2)

    def test_sites_that_are_pulled_back_go_less_far(self, tmp_path: Path) -> None:
        lengths = []
        for mu in (0.0, 30.0):
            folder = tmp_path / str(mu)
            run(toy_config(rounds=1, method={"strategy": "fedprox", "options": {"mu": mu}}), folder)
            start = load_state(RunFolder(folder).server, 0).adapter()
            lengths.append(distance(start, sent_in(folder, 1, "alpha")))
        assert lengths[1] < 0.9 * lengths[0]
        run(toy_config(rounds=1), tmp_path / "mean")
        assert sent_in(tmp_path / "mean", 1, "alpha").digest == sent_in(tmp_path / "0.0", 1, "alpha").digest


def test_a_pull_away_is_refused() -> None:
    with pytest.raises(ConfigError, match="mu is -1"):
        make_strategy("fedprox", {"mu": -1})
