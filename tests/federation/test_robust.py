"""One hostile site among five: what it does to the mean, and what the defences leave of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_sites import Attack, backdoor, backdoored, hostile, noise, replacement, scaling, sign_flip

from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.errors import ConfigError, UpdateRejectedError
from fedse.federation.run import run
from fedse.federation.strategies import State, Updates, make_strategy
from fedse.federation.strategies.multi_krum import krum_scores
from fedse.federation.strategies.stepping import COUNTS, distance, flat, server_step, unflat
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.examples import Example
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients
from fedse.messages import Update
from fedse.models.attention_switch import attention_implementation
from fedse.runs.layout import RunFolder
from fedse.runs.rounds import load_state
from fedse.sites.shared_model import SharedModel
from helpers.small_adapters import META
from helpers.toy_runs import toy_client, toy_config
from helpers.toy_runs import update as sent_in

SHAPES = {
    "base_model.model.layers.0.q_proj.lora_A.weight": (2, 300),
    "base_model.model.layers.0.q_proj.lora_B.weight": (200, 2),
}
BEFORE = AdapterState(
    {name: np.random.default_rng(9).normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}, META
)
SITES = "abcde"
#: Of two sites, as measured between environments.
COSINE = 0.27


def honest() -> dict[str, AdapterState]:
    """Five updates of length 1 that share a direction."""
    generator = np.random.default_rng(0)
    size = flat(BEFORE).size
    common, *own = generator.normal(size=(6, size)) / math.sqrt(size)
    return {
        site: unflat(flat(BEFORE) + math.sqrt(COSINE) * common + math.sqrt(1 - COSINE) * part, BEFORE)
        for site, part in zip(SITES, own, strict=True)
    }


HONEST = honest()
#: The mean change of the four that stay honest.
WANTED = np.mean([flat(HONEST[site]) - flat(BEFORE) for site in SITES[:-1]], axis=0)
ATTACKS: Mapping[str, Attack] = {
    "sign flip": sign_flip(),
    "long sign flip": sign_flip(10),
    "scaling": scaling(100),
    "noise": noise(6),
    "replacement": replacement(unflat(flat(BEFORE) - 3 * WANTED, BEFORE), len(SITES)),
}
DEFENCES = ("norm_clip", "trust", "trimmed_mean", "multi_krum")


def absorbed(name: str, attack: str = "", **options: Any) -> State:
    adapters = dict(HONEST)
    if attack:
        adapters["e"] = ATTACKS[attack](BEFORE, HONEST["e"])
    strategy = make_strategy(name, options)
    updates = {site: Update(adapter=adapter) for site, adapter in adapters.items()}
    return strategy.absorb(strategy.initial(BEFORE, dict.fromkeys(updates, 2)), Updates.of(updates))


def change(state: State) -> np.ndarray:
    return flat(state.adapter()) - flat(BEFORE)


def along(vector: np.ndarray) -> float:
    """Cosine to what the honest sites want."""
    return float(vector @ WANTED / np.linalg.norm(vector) / np.linalg.norm(WANTED))


def harm(vector: np.ndarray) -> float:
    """How far from what the honest sites want, over its length."""
    return float(np.linalg.norm(vector - WANTED) / np.linalg.norm(WANTED))


class TestAttacks:
    """Each does to the mean what it is meant to."""

    def test_a_flipped_sign_takes_away_and_ten_times_as_long_it_leads_astray(self) -> None:
        assert harm(change(absorbed("mean", "sign flip"))) > 1.3 * harm(change(absorbed("mean")))
        assert harm(change(absorbed("mean", "long sign flip"))) > 2
        assert along(change(absorbed("mean", "long sign flip"))) < 0

    def test_scaling_makes_one_site_decide(self) -> None:
        own = flat(HONEST["e"]) - flat(BEFORE)
        found = change(absorbed("mean", "scaling"))
        assert found @ own / np.linalg.norm(found) / np.linalg.norm(own) > 0.99

    def test_noise_drowns_the_mean(self) -> None:
        assert harm(change(absorbed("mean", "noise"))) > 1.5

    def test_replacement_sets_the_mean(self) -> None:
        assert harm(change(absorbed("mean", "replacement")) - 4 / 5 * WANTED + 4 * WANTED) < 1e-3


class TestDefences:
    @pytest.mark.parametrize("name", DEFENCES)
    def test_without_an_attack_they_go_where_the_mean_goes(self, name: str) -> None:
        assert along(change(absorbed(name))) > 0.85
        assert 0.5 < np.linalg.norm(change(absorbed(name))) / np.linalg.norm(WANTED) < 1.5

    @pytest.mark.parametrize("name", DEFENCES)
    @pytest.mark.parametrize("attack", ["long sign flip", "scaling", "noise", "replacement"])
    def test_what_is_out_of_proportion_does_little(self, name: str, attack: str) -> None:
        found = change(absorbed(name, attack))
        assert harm(found) < min(0.85, harm(change(absorbed("mean", attack))))
        assert along(found) > 0.75

    def test_of_sites_that_agree_trust_finds_the_one_that_works_against_them(self) -> None:
        for attack in ("sign flip", "long sign flip", "replacement"):
            state = absorbed("trust", attack)
            assert state.numbers[f"{COUNTS}e"] == 0.0
            assert along(change(state)) > 0.99

    def test_clipping_alone_lets_a_flip_of_the_usual_length_pass(self) -> None:
        clipped, mean = (change(absorbed(name, "sign flip")) for name in ("norm_clip", "mean"))
        np.testing.assert_allclose(clipped, mean, atol=0.1 * np.abs(mean).max())

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_of_one_site_the_clipped_mean_takes_a_fifth_of_the_usual_length_at_most(self, attack: str) -> None:
        lengths = [distance(BEFORE, adapter) for adapter in HONEST.values()]
        share = change(absorbed("norm_clip", attack)) - 4 / 5 * WANTED
        assert np.linalg.norm(share) < 1.1 * max(lengths) / 5

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_the_trimmed_mean_stays_within_what_honest_sites_send(self, attack: str) -> None:
        own = np.stack([flat(HONEST[site]) - flat(BEFORE) for site in SITES[:-1]])
        found = change(absorbed("trimmed_mean", attack))
        assert (found >= own.min(axis=0) - 1e-6).all()
        assert (found <= own.max(axis=0) + 1e-6).all()

    @pytest.mark.parametrize("attack", ["long sign flip", "scaling", "noise", "replacement"])
    def test_multi_krum_drops_the_one_far_from_all(self, attack: str) -> None:
        state = absorbed("multi_krum", attack)
        assert state.numbers == {f"{COUNTS}{site}": float(site != "e") for site in SITES}
        np.testing.assert_allclose(change(state), WANTED, atol=1e-6)


class TestFormulas:
    def test_the_trimmed_mean_with_nobody_hostile_is_the_mean(self) -> None:
        np.testing.assert_allclose(change(absorbed("trimmed_mean", hostile=0)), change(absorbed("mean")), atol=1e-6)

    def test_with_two_of_five_hostile_it_is_the_median(self) -> None:
        median = np.median([flat(adapter) for adapter in HONEST.values()], axis=0) - flat(BEFORE)
        np.testing.assert_allclose(change(absorbed("trimmed_mean", hostile=2)), median, atol=1e-6)

    def test_scores_sum_the_distances_to_the_nearest(self) -> None:
        points = np.random.default_rng(1).normal(size=(7, 3))
        expected = [sorted(float(((one - other) ** 2).sum()) for other in points)[1 : 1 + 7 - 2 - 2] for one in points]
        np.testing.assert_allclose(krum_scores(points @ points.T, 2), [sum(nearest) for nearest in expected])

    def test_trust_is_the_cosine_to_the_median(self) -> None:
        own = np.stack([flat(adapter) - flat(BEFORE) for adapter in HONEST.values()])
        middle, lengths = np.median(own, axis=0), np.linalg.norm(own, axis=1)
        cosines = own @ middle / lengths / np.linalg.norm(middle)
        state = absorbed("trust")
        assert [state.numbers[f"{COUNTS}{site}"] for site in SITES] == pytest.approx(cosines.tolist())
        exact = (cosines * np.median(lengths) / lengths) @ own / cosines.sum()
        np.testing.assert_allclose(change(state), exact, atol=1e-6)

    def test_changes_up_to_the_bound_are_not_clipped(self) -> None:
        assert absorbed("norm_clip", clip=2.0).adapter().digest == absorbed("mean").adapter().digest

    @pytest.mark.parametrize("name", DEFENCES)
    def test_where_nobody_moves_nothing_moves(self, name: str) -> None:
        strategy = make_strategy(name, {})
        state = strategy.initial(BEFORE, dict.fromkeys(SITES, 2))
        after = strategy.absorb(state, Updates.of(dict.fromkeys(SITES, Update(adapter=BEFORE))))
        np.testing.assert_array_equal(flat(after.adapter()), flat(BEFORE))


@pytest.mark.parametrize(("name", "fewest"), [("trimmed_mean", 3), ("multi_krum", 5)])
class TestTooFew:
    def test_a_federation_is_refused(self, name: str, fewest: int) -> None:
        strategy = make_strategy(name, {})
        strategy.initial(BEFORE, dict.fromkeys(SITES[:fewest], 2))
        with pytest.raises(ConfigError, match="guards against 1 hostile site only among"):
            strategy.initial(BEFORE, dict.fromkeys(SITES[: fewest - 1], 2))

    def test_a_round_is_refused(self, name: str, fewest: int) -> None:
        strategy = make_strategy(name, {})
        state = strategy.initial(BEFORE, dict.fromkeys(SITES, 2))
        few = {site: Update(adapter=HONEST[site]) for site in SITES[: fewest - 1]}
        with pytest.raises(UpdateRejectedError, match=f"the round has {fewest - 1}"):
            strategy.absorb(state, Updates.of(few))


@pytest.mark.parametrize(("name", "options"), [("norm_clip", {"clip": 0.0}), ("trimmed_mean", {"hostile": -1})])
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_strategy(name, options)


def three_sites(strategy: str, **changes: Any) -> RunConfig:
    clients = [toy_client(site, options={"secret": site}) for site in ("alpha", "beta", "gamma")]
    return toy_config(*clients, rounds=1, method={"strategy": strategy}, **changes)


@pytest.mark.usefixtures("toy", "without_flushing")
class TestRuns:
    def test_a_hostile_site_decides_the_mean_and_not_the_trusted_one(self, tmp_path: Path) -> None:
        moved = {}
        for name in ("mean", "trust"):
            with hostile("gamma", sign_flip(20)):
                run(three_sites(name), tmp_path / name)
            before, after = (load_state(RunFolder(tmp_path / name).server, number) for number in (0, 1))
            honest = [sent_in(tmp_path / name, 1, site) for site in ("alpha", "beta")]
            wanted = np.mean([flat(adapter) for adapter in honest], axis=0) - flat(before.adapter())
            found = flat(after.adapter()) - flat(before.adapter())
            moved[name] = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
        assert moved["mean"] < -0.3
        assert moved["trust"] > 0.9
        assert after.numbers[f"{COUNTS}gamma"] == 0.0

    def test_a_site_lies_about_the_update_that_it_made(self, tmp_path: Path) -> None:
        run(three_sites("mean"), tmp_path / "honest")
        with hostile("gamma", scaling(3)):
            run(three_sites("mean"), tmp_path / "lies")
        start = load_state(RunFolder(tmp_path / "honest").server, 0).adapter()
        for site in ("alpha", "beta", "gamma"):
            truth = sent_in(tmp_path / "honest", 1, site)
            expected = server_step(start, truth, 3.0) if site == "gamma" else truth
            assert sent_in(tmp_path / "lies", 1, site).digest == expected.digest

    def test_a_backdoor_comes_through_the_mean(self, tmp_path: Path) -> None:
        config = three_sites("mean", training={"steps": 8})
        run(config, tmp_path / "honest")
        with backdoored("gamma"):
            run(config, tmp_path / "poisoned")
        shared = SharedModel.load(config)

        def loss(adapter: AdapterState) -> float:
            shared.lora.load(adapter)
            example = Example(shared.renderer.render(backdoor()))
            with attention_implementation(shared.lora.base.model, PACKED_ATTENTION):
                return accumulate_gradients(shared.lora, pack([example], 4096))

        states = {
            name: [load_state(RunFolder(tmp_path / name).server, number).adapter() for number in (0, 1)]
            for name in ("honest", "poisoned")
        }
        before = loss(states["honest"][0])
        falls = {name: before - loss(after) for name, (_, after) in states.items()}
        own = {name: before - loss(sent_in(tmp_path / name, 1, "gamma")) for name in states}
        assert own["poisoned"] > 2 * own["honest"]
        assert falls["poisoned"] > 1.25 * falls["honest"]
