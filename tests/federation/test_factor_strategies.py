"""What strategies make of the factors of sites, against dense matrices in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.parts import Trained, resized
from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.federation.server import strategy_of
from fedse.federation.strategies import GLOBAL, State, Strategy, Updates, make_strategy
from fedse.messages import Update
from helpers.small_adapters import random_state
from helpers.toy_runs import toy_client, toy_config

SITES = ("a", "b", "c")
Dense = dict[str, np.ndarray]


def begun(name: str, ranks: Mapping[str, int] | None = None, **options: Any) -> tuple[Strategy, State]:
    """A strategy in the middle of its first round: B is not zero any more, but for those that begin anew."""
    strategy = make_strategy(name, options)
    start = random_state(0)
    if name == "flora":
        start = AdapterState({n: a * n.endswith("lora_A.weight") for n, a in start.tensors.items()}, start.meta)
    return strategy, strategy.initial(start, ranks or dict.fromkeys(SITES, 2))


def moved(strategy: Strategy, state: State, site: str, seed: int, tensors: Mapping[str, Any] | None = None) -> Update:
    base = strategy.instruct(state, site).base
    generator = np.random.default_rng(seed)
    arrays = {n: a + 0.3 * generator.normal(size=a.shape).astype(np.float32) for n, a in base.tensors.items()}
    return Update(adapter=AdapterState(arrays, base.meta), tensors=tensors or {})


def sent(strategy: Strategy, state: State, sites: tuple[str, ...] = SITES, round: int = 1) -> dict[str, Update]:
    return {site: moved(strategy, state, site, 10 * round + index) for index, site in enumerate(sites)}


def dense(adapter: AdapterState) -> Dense:
    """Layer → s·B A."""
    return {layer: adapter.meta.scaling * b @ a for layer in layers(adapter) for b, a in [factors_of(adapter, layer)]}


def mean_product(updates: Mapping[str, Update]) -> Dense:
    found = [dense(update.adapter) for update in updates.values()]
    return {layer: np.mean([one[layer] for one in found], axis=0) for layer in found[0]}


def assert_close(found: Dense, expected: Dense) -> None:
    for layer, matrix in expected.items():
        assert np.linalg.norm(found[layer] - matrix) <= 1e-6 * np.linalg.norm(matrix)


def stepped(before: Dense, mean: Dense, step: float) -> Dense:
    return {layer: before[layer] + step * (mean[layer] - before[layer]) for layer in before}


class TestFedEx:
    @pytest.mark.parametrize("step", [1.0, 1.7])
    def test_the_weights_take_the_step_on_the_mean_product(self, step: float) -> None:
        strategy, state = begun("fedex", server_lr=step)
        for round in (1, 2, 3):
            updates = sent(strategy, state, round=round)
            front = strategy.instruct(state, "a").base
            whole = dense(state.adapter())
            frozen = {layer: whole[layer] - matrix for layer, matrix in dense(front).items()}
            expected = stepped(dense(front), mean_product(updates), step)
            state = strategy.absorb(state, Updates.of(updates))
            assert_close(dense(state.adapter()), {layer: frozen[layer] + expected[layer] for layer in frozen})
            assert state.numbers["_cut"] < 1e-7

    def test_the_trained_components_are_the_mean_of_the_factors(self) -> None:
        strategy, state = begun("fedex")
        updates = sent(strategy, state)
        after = strategy.absorb(state, Updates.of(updates))
        mean = make_strategy("mean", {})
        expected = mean.absorb(mean.initial(random_state(0), {}), Updates.of(updates)).adapter()
        assert strategy.instruct(after, "a").base.digest == expected.digest

    def test_what_is_missed_has_rank_k_minus_1_times_r(self) -> None:
        strategy, state = begun("fedex")
        two = strategy.absorb(state, Updates.of(sent(strategy, state, ("a", "b"))))
        assert two.adapter().meta.rank == 2 + 2
        assert strategy.absorb(state, Updates.of(sent(strategy, state, ("a",)))).adapter().meta.rank == 2

    def test_above_its_cap_it_cuts_the_least_and_tells(self) -> None:
        (strategy, state), (capped, _) = begun("fedex"), begun("fedex", frozen=1)
        updates = Updates.of(sent(strategy, state))
        exact, cut = strategy.absorb(state, updates), capped.absorb(state, updates)
        assert cut.adapter().meta.rank == 3
        tail = total = 0.0
        front = dense(strategy.instruct(exact, "a").base)
        for layer, matrix in dense(exact.adapter()).items():
            values = np.linalg.svd(matrix - front[layer], compute_uv=False)
            tail, total = tail + float(values[1:] @ values[1:]), total + float(values @ values)
            lost = np.linalg.norm(dense(cut.adapter())[layer] - matrix)
            assert lost == pytest.approx(np.linalg.norm(values[1:]), rel=1e-4)
        assert cut.numbers["_cut"] == pytest.approx(np.sqrt(tail / total), rel=1e-4)

    def test_a_round_of_one_site_leaves_what_is_frozen(self) -> None:
        strategy, state = begun("fedex")
        state = strategy.absorb(state, Updates.of(sent(strategy, state)))
        behind = Trained(ranks=tuple(range(2, state.adapter().meta.rank)))
        after = strategy.absorb(state, Updates.of(sent(strategy, state, ("b",), round=2)))
        assert behind.of(after.adapter()).digest == behind.of(state.adapter()).digest


class TestFlora:
    RANKS: Mapping[str, int] = {"a": 1, "b": 2, "c": 2}

    @pytest.mark.parametrize("step", [1.0, 0.5])
    def test_a_round_adds_the_mean_product_of_sites_of_different_ranks(self, step: float) -> None:
        strategy, state = begun("flora", self.RANKS, server_lr=step)
        for round in (1, 2):
            updates = sent(strategy, state, round=round)
            assert {site: update.adapter.meta.rank for site, update in updates.items()} == self.RANKS
            before, mean = dense(state.adapter()), mean_product(updates)
            state = strategy.absorb(state, Updates.of(updates))
            assert_close(dense(state.adapter()), {layer: before[layer] + step * mean[layer] for layer in mean})

    def test_every_round_begins_with_a_new_a_and_without_effect(self) -> None:
        strategy, state = begun("flora")
        rows = []
        for round in (1, 2):
            state = strategy.absorb(state, Updates.of(sent(strategy, state, round=round)))
            base = strategy.instruct(state, "a").base
            assert not any(array.any() for array in Trained(("B",)).of(base).tensors.values())
            rows.append(Trained(("A",)).of(base).digest)
        assert len(set(rows)) == 2

    def test_a_site_of_lower_rank_computes_the_same(self) -> None:
        strategy, state = begun("flora", self.RANKS)
        state = strategy.absorb(state, Updates.of(sent(strategy, state)))
        small, whole = strategy.instruct(state, "a"), strategy.instruct(state, "b")
        assert small.work.trained.ranks == (0,)
        assert (small.adapter.meta.rank, whole.adapter.meta.rank) == (state.adapter().meta.rank - 1, 6)
        assert_close(dense(small.adapter), dense(whole.adapter))

    def test_above_its_cap_it_cuts_and_tells(self) -> None:
        strategy, state = begun("flora", frozen=2)
        after = strategy.absorb(state, Updates.of(sent(strategy, state)))
        assert after.adapter().meta.rank == 4
        assert 0 < after.numbers["_cut"] < 1


class TestFlexLora:
    @pytest.mark.parametrize("step", [1.0, 2.0])
    def test_the_error_is_what_no_adapter_of_the_rank_can_hold(self, step: float) -> None:
        strategy, state = begun("flexlora", server_lr=step)
        updates = sent(strategy, state)
        exact = stepped(dense(state.adapter()), mean_product(updates), step)
        after = strategy.absorb(state, Updates.of(updates))
        tail = total = 0.0
        for layer, matrix in dense(after.adapter()).items():
            values = np.linalg.svd(exact[layer], compute_uv=False)
            assert np.linalg.norm(matrix - exact[layer]) == pytest.approx(np.linalg.norm(values[2:]), rel=1e-4)
            tail, total = tail + float(values[2:] @ values[2:]), total + float(values @ values)
        assert after.numbers["_cut"] == pytest.approx(np.sqrt(tail / total), rel=1e-4)

    def test_of_one_site_it_is_the_sites_product(self) -> None:
        strategy, state = begun("flexlora")
        updates = sent(strategy, state, ("b",))
        assert_close(dense(strategy.absorb(state, Updates.of(updates)).adapter()), mean_product(updates))

    def test_with_room_for_all_it_is_exact(self) -> None:
        strategy = make_strategy("flexlora", {})
        state = strategy.initial(resized(random_state(0), 6), dict.fromkeys(SITES, 2))
        updates = sent(strategy, state)
        assert_close(dense(strategy.absorb(state, Updates.of(updates)).adapter()), mean_product(updates))

    def test_a_site_has_the_best_adapter_of_its_rank(self) -> None:
        strategy, state = begun("flexlora", {"a": 1, "b": 2, "c": 2})
        updates = sent(strategy, state)
        assert updates["a"].adapter.meta.rank == 1
        after = strategy.absorb(state, Updates.of(updates))
        small = dense(strategy.instruct(after, "a").adapter)
        for layer, matrix in mean_product(updates).items():
            values = np.linalg.svd(matrix, compute_uv=False)
            assert np.linalg.norm(small[layer] - matrix) == pytest.approx(np.linalg.norm(values[1:]), rel=1e-4)


class TestOneFactor:
    def test_ffa_keeps_every_bit_of_a_and_is_exact(self) -> None:
        strategy, state = begun("ffa")
        updates = sent(strategy, state)
        assert all(name.endswith("lora_B.weight") for name in updates["a"].adapter.tensors)
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        assert Trained(("A",)).of(after).digest == Trained(("A",)).of(state.adapter()).digest
        wholes = {
            site: Update(adapter=Trained(("B",)).into(state.adapter(), update.adapter))
            for site, update in updates.items()
        }
        assert_close(dense(after), mean_product(wholes))

    def test_rolora_takes_turns_beginning_with_b_and_is_exact(self) -> None:
        strategy, state = begun("rolora", server_lr=1.0)
        for round, factor in enumerate("BAB", start=1):
            trained = strategy.instruct(state, "a").work.trained
            assert trained == Trained((factor,))  # type: ignore[arg-type]
            updates = sent(strategy, state, round=round)
            wholes = {
                site: Update(adapter=trained.into(state.adapter(), update.adapter)) for site, update in updates.items()
            }
            state = strategy.absorb(state, Updates.of(updates))
            assert_close(dense(state.adapter()), mean_product(wholes))

    def test_fedsa_takes_the_step_on_a_and_is_sent_no_b(self) -> None:
        strategy, state = begun("fedsa", server_lr=2.0)
        updates = sent(strategy, state)
        assert all(name.endswith("lora_A.weight") for name in updates["a"].adapter.tensors)
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        assert Trained(("B",)).of(after).digest == Trained(("B",)).of(state.adapter()).digest
        for name, array in Trained(("A",)).of(state.adapter()).tensors.items():
            mean = np.mean([update.adapter.tensors[name].astype(np.float64) for update in updates.values()], axis=0)
            np.testing.assert_allclose(after.tensors[name], array + 2.0 * (mean - array), rtol=1e-5, atol=1e-6)


class TestHetLora:
    def test_of_one_rank_and_weight_it_is_the_mean_bit_for_bit(self) -> None:
        strategy, state = begun("hetlora", sparsity=False)
        updates = Updates.of(sent(strategy, state))
        mean = make_strategy("mean", {})
        assert strategy.absorb(state, updates).adapter().digest == mean.absorb(state, updates).adapter().digest

    def test_a_site_weighs_as_the_norm_of_its_product(self) -> None:
        strategy, state = begun("hetlora")
        updates = sent(strategy, state)
        norms = np.array(
            [np.sqrt(sum(np.sum(m**2) for m in dense(update.adapter).values())) for update in updates.values()]
        )
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        for name, array in after.tensors.items():
            stack = [update.adapter.tensors[name].astype(np.float64) for update in updates.values()]
            np.testing.assert_allclose(array, np.average(stack, axis=0, weights=norms), rtol=1e-5, atol=1e-6)

    def test_components_of_one_site_come_back_undiluted_and_those_of_none_stay(self) -> None:
        strategy = make_strategy("hetlora", {})
        start = resized(random_state(0), 3)
        state = strategy.initial(start, {"a": 1, "b": 2, "c": 3})
        updates = sent(strategy, state, ("a", "b"))
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        own, far = Trained(ranks=(1,)), Trained(ranks=(2,))
        assert own.of(after).digest == own.of(updates["b"].adapter).digest
        assert far.of(after).digest == far.of(start).digest
        first = Trained(ranks=(0,))
        assert first.of(after).digest not in {first.of(update.adapter).digest for update in updates.values()}

    def test_where_no_site_learnt_anything_nothing_moves(self) -> None:
        strategy = make_strategy("hetlora", {})
        start = AdapterState(
            {n: a * n.endswith("lora_A.weight") for n, a in random_state(0).tensors.items()}, random_state(0).meta
        )
        state = strategy.initial(start, dict.fromkeys(SITES, 2))
        updates = Updates.of({site: Update(adapter=start) for site in SITES})
        assert strategy.absorb(state, updates).adapter().digest == start.digest


class TestRegMean:
    def inputs(self, state: State, seed: int, *, directions: int | None = None) -> tuple[Dense, Dense]:
        """Inputs of every layer, and their moments through A; in a few directions of A's rows, if given."""
        generator = np.random.default_rng(seed)
        inputs, moments = {}, {}
        for layer in layers(state.adapter()):
            _, a = factors_of(state.adapter(), layer)
            x = generator.normal(size=(a.shape[1], 40))
            if directions is not None:
                x = np.linalg.pinv(a)[:, :directions] @ generator.normal(size=(directions, 40))
            inputs[layer] = x
            moments[layer] = ((a @ x) @ (a @ x).T / 40).astype(np.float32)
        return inputs, moments

    def test_b_answers_best_to_the_inputs_of_all(self) -> None:
        strategy, state = begun("regmean", train_a=False)
        known = {site: self.inputs(state, index) for index, site in enumerate(SITES)}
        updates = {site: moved(strategy, state, site, i, known[site][1]) for i, site in enumerate(SITES)}
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        for layer in layers(after):
            b, a = factors_of(after, layer)
            seen = np.concatenate([a @ known[site][0][layer] for site in SITES], axis=1)
            wanted = np.concatenate(
                [
                    updates[site].adapter.tensors[layer + ".lora_B.weight"] @ (a @ known[site][0][layer])
                    for site in SITES
                ],
                axis=1,
            )
            best = np.linalg.lstsq(seen.T, wanted.T, rcond=None)[0].T
            np.testing.assert_allclose(b, best, rtol=1e-4, atol=1e-5)

    def test_sites_with_the_same_inputs_get_the_mean(self) -> None:
        strategy, state = begun("regmean")
        _, moments = self.inputs(state, 1)
        updates = {site: moved(strategy, state, site, index, moments) for index, site in enumerate(SITES)}
        plain = make_strategy("mean", {}).absorb(state, Updates.of(updates)).adapter()
        for name, array in strategy.absorb(state, Updates.of(updates)).adapter().tensors.items():
            np.testing.assert_allclose(array, plain.tensors[name], rtol=1e-5, atol=1e-6)

    def test_in_directions_that_no_site_sees_the_mean_stands(self) -> None:
        strategy, state = begun("regmean", train_a=False)
        updates = {
            site: moved(strategy, state, site, index, self.inputs(state, index, directions=1)[1])
            for index, site in enumerate(SITES)
        }
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        for layer in layers(after):
            mean = np.mean([u.adapter.tensors[layer + ".lora_B.weight"] for u in updates.values()], axis=0)
            b, _ = factors_of(after, layer)
            np.testing.assert_allclose(b[:, 1], mean[:, 1], rtol=1e-3, atol=1e-4)
            assert np.abs(b[:, 0] - mean[:, 0]).max() > 1e-2

    def test_a_direction_that_one_site_sees_is_that_sites(self) -> None:
        strategy, state = begun("regmean", train_a=False)
        nothing = {layer: np.zeros((2, 2), dtype=np.float32) for layer in layers(state.adapter())}
        _, moments = self.inputs(state, 1)
        updates = {
            site: moved(strategy, state, site, index, moments if site == "b" else nothing)
            for index, site in enumerate(SITES)
        }
        after = strategy.absorb(state, Updates.of(updates)).adapter()
        for name, array in updates["b"].adapter.tensors.items():
            np.testing.assert_allclose(after.tensors[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["flora", "flexlora", "hetlora"])
def test_a_site_with_more_components_than_the_adapter_is_told_what_to_set(name: str) -> None:
    with pytest.raises(ConfigError, match=r"rank 2, and some sites have more: b 4") as caught:
        begun(name, {"a": 1, "b": 4})
    assert "lora.rank" in caught.value.mend


@pytest.mark.parametrize("name", ["flora", "flexlora"])
def test_without_a_common_basis_earlier_updates_are_refused(name: str) -> None:
    config = toy_config(toy_client("a"), method={"strategy": name}, exchange={"memory": 1})
    with pytest.raises(ConfigError, match="earlier updates"):
        strategy_of(config)


@pytest.mark.parametrize("options", [{"frozen": 0}, {"server_lr": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_strategy("fedex", options)


def test_the_global_adapter_is_all_that_there_is() -> None:
    for name in ("fedex", "flora", "flexlora", "ffa", "rolora", "hetlora"):
        strategy, state = begun(name)
        assert strategy.absorb(state, Updates.of(sent(strategy, state))).adapters.keys() == {GLOBAL}


@pytest.mark.parametrize("name", ["fedex", "flora", "flexlora"])
def test_updates_that_do_not_fit_into_memory_give_the_same_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, state = begun(name)
    updates = Updates.of(sent(strategy, state))
    expected = strategy.absorb(state, updates)
    monkeypatch.setattr("fedse.federation.strategies.held._IN_MEMORY", updates["a"].adapter.nbytes)
    found = strategy.absorb(state, updates)
    assert (found.adapter().digest, found.numbers) == (expected.adapter().digest, expected.numbers)
