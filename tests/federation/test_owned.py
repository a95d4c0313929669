"""Shared and owned blocks, alone and in runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.adapters.parts import Trained
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError, RunError
from fedse.federation.run import run
from fedse.federation.strategies import State, Strategy, Updates, make_strategy
from fedse.messages import Update
from fedse.runs.layout import RunFolder
from fedse.runs.rounds import load_state
from helpers.small_adapters import random_state
from helpers.toy_runs import toy_client, toy_config, update

SITES = ("a", "b", "c")
TOLD = 3
LAYERS = {"base_model.model.layers.0.q_proj": 5, "base_model.model.layers.0.k_proj": 4}


def strategy(**options: Any) -> Strategy:
    return make_strategy("owned", {"own": 0.5, "moments": TOLD} | options)


def trains(strategy: Strategy, state: State, site: str) -> Trained:
    return strategy.instruct(state, site).work.trained


def moments(seed: int) -> dict[str, np.ndarray]:
    found = {}
    for layer in LAYERS:
        drawn = np.random.default_rng(seed).normal(size=(TOLD, TOLD)).astype(np.float32)
        found[layer] = drawn @ drawn.T
    return found


def sent(strategy: Strategy, state: State, site: str, seed: int) -> Update:
    """The part that the site was to train, moved at random."""
    base = strategy.instruct(state, site).base
    generator = np.random.default_rng(seed)
    moved = {n: a + generator.normal(size=a.shape).astype(np.float32) for n, a in base.tensors.items()}
    told = moments(seed) if strategy.instruct(state, site).work.moments else {}
    return Update(adapter=AdapterState(moved, base.meta), tensors=told)


def absorbed(strategy: Strategy, state: State, sites: tuple[str, ...], round: int) -> tuple[State, dict[str, Update]]:
    updates = {site: sent(strategy, state, site, 10 * round + index) for index, site in enumerate(sites)}
    return strategy.absorb(state, Updates.of(updates)), updates


def test_at_first_all_train_the_shared_block_and_tell_moments() -> None:
    owned = strategy()
    state = owned.initial(random_state(0), dict.fromkeys(SITES, 2))
    assert state.adapter().meta.rank == 1 + 3
    assert state.adapter().meta.scaling == random_state(0).meta.scaling
    for site in SITES:
        assert trains(owned, state, site) == Trained(ranks=(0,))
        assert owned.instruct(state, site).work.moments == TOLD


def test_the_shared_block_is_averaged_and_a_block_is_its_owners() -> None:
    owned = strategy(server_lr=2.0)
    state, _ = absorbed(owned, owned.initial(random_state(0), dict.fromkeys(SITES, 2)), SITES, 1)
    assert [trains(owned, state, site).ranks for site in SITES] == [(0, 1), (0, 2), (0, 3)]
    assert not any(owned.instruct(state, site).work.moments for site in SITES)
    after, updates = absorbed(owned, state, SITES, 2)
    wholes = {s: trains(owned, state, s).into(state.adapter(), u.adapter) for s, u in updates.items()}
    for site, index in zip(SITES, (1, 2, 3), strict=True):
        own = Trained(ranks=(index,))
        assert own.of(after.adapter()).digest == own.of(wholes[site]).digest
        rows = Trained(("A",), (index,))
        assert rows.of(after.adapter()).digest == rows.of(state.adapter()).digest, "the A of a block stays"
    for name, array in Trained(ranks=(0,)).of(after.adapter()).tensors.items():
        start = Trained(ranks=(0,)).of(state.adapter()).tensors[name]
        mean = np.mean([Trained(ranks=(0,)).of(whole).tensors[name] for whole in wholes.values()], axis=0)
        np.testing.assert_allclose(array, start + 2.0 * (mean - start), rtol=1e-5)


def test_a_site_that_is_away_keeps_its_block() -> None:
    owned = strategy()
    state, _ = absorbed(owned, owned.initial(random_state(0), dict.fromkeys(SITES, 2)), SITES, 1)
    after, _ = absorbed(owned, state, ("a", "c"), 2)
    block = trains(owned, state, "b")
    own = Trained(ranks=block.ranks[1:] if block.ranks else None)
    assert own.of(after.adapter()).digest == own.of(state.adapter()).digest


def test_a_site_that_joins_late_first_learns_what_is_shared() -> None:
    owned = strategy()
    state, _ = absorbed(owned, owned.initial(random_state(0), dict.fromkeys(SITES, 2)), ("a", "b"), 1)
    assert trains(owned, state, "c") == Trained(ranks=(0,))
    state, _ = absorbed(owned, state, SITES, 2)
    assert trains(owned, state, "c").ranks == (0, 3)
    block = Trained(ranks=(3,)).of(state.adapter())
    assert all((array == 0).all() for name, array in block.tensors.items() if name.endswith("lora_B.weight"))


def test_without_moments_blocks_are_trained_from_the_first_round() -> None:
    owned = strategy(moments=0)
    state = owned.initial(random_state(0), dict.fromkeys(SITES, 2))
    assert [trains(owned, state, site).ranks for site in SITES] == [(0, 1), (0, 2), (0, 3)]
    rows = [Trained(("A",), (index,)).of(state.adapter()) for index in (1, 2, 3)]
    assert len({row.digest for row in rows}) == 3


@pytest.mark.parametrize("own", [0.0, 0.2, 0.8, 1.0])
def test_there_is_a_shared_block_and_one_of_its_own(own: float) -> None:
    with pytest.raises(ConfigError, match="nothing to own, or nothing to share"):
        strategy(own=own).initial(random_state(0), dict.fromkeys(SITES, 2))


@pytest.mark.usefixtures("toy", "without_flushing")
class TestRuns:
    def test_sites_send_what_they_train_and_the_rest_is_untouched(self, tmp_path: Path) -> None:
        config = toy_config(rounds=3, method={"strategy": "owned", "options": {"own": 0.5, "moments": 4}})
        run(config, tmp_path)
        states = [load_state(RunFolder(tmp_path).server, number) for number in range(4)]
        assert [state.adapter().meta.rank for state in states] == [3] * 4
        assert [update(tmp_path, number, "alpha").meta.rank for number in (1, 2, 3)] == [1, 2, 2]
        for index, site in enumerate(("alpha", "beta")):
            own = Trained(("B",), (1 + index,)).of(states[3].adapter())
            assert own.digest == Trained(("B",), (1,)).of(update(tmp_path, 3, site)).digest

    def test_a_site_that_keeps_its_moments_to_itself_is_told_what_to_disclose(self, tmp_path: Path) -> None:
        sites = toy_client("alpha", disclose=("examples",)), toy_client("beta")
        config = toy_config(*sites, method={"strategy": "owned", "options": {"own": 0.5}})
        with pytest.raises((ConfigError, RunError), match="moments"):
            run(config, tmp_path)
