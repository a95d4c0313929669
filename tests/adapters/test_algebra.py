from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from fedse.adapters.algebra import (
    aggregation_error,
    conflict,
    factor_gram,
    gradient_heterogeneity,
    product_gram,
    random_sign_agreement,
    sign_agreement,
)
from fedse.adapters.state import AdapterMeta, AdapterState

META = AdapterMeta(rank=2, alpha=4.0, target_modules=("q_proj",), base_model="0123456789abcdef")
LAYERS = {"base_model.model.layers.0.q_proj": (5, 4), "base_model.model.layers.1.q_proj": (3, 6)}
Dense = npt.NDArray[np.float64]


def adapter(seed: int, *, around: AdapterState | None = None, scale: float = 1.0) -> AdapterState:
    """Random factors, or random steps of a length from an adapter."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for layer, (out, into) in LAYERS.items():
        for name, shape in ((f"{layer}.lora_A.weight", (2, into)), (f"{layer}.lora_B.weight", (out, 2))):
            start = 0.0 if around is None else around.tensors[name]
            tensors[name] = (start + scale * generator.normal(size=shape)).astype(np.float32)
    return AdapterState(tensors, META)


def shared_a(state: AdapterState, source: AdapterState) -> AdapterState:
    """``state`` with the A factors of ``source``."""
    return AdapterState({name: (source if ".lora_A." in name else state).tensors[name] for name in state.tensors}, META)


def products(state: AdapterState) -> Dense:
    """All products B·A, formed and flattened."""
    return np.concatenate(
        [
            (
                state.tensors[f"{layer}.lora_B.weight"].astype(np.float64)
                @ state.tensors[f"{layer}.lora_A.weight"].astype(np.float64)
            ).ravel()
            for layer in LAYERS
        ]
    )


BEFORE = adapter(0)
UPDATES = [adapter(seed, around=BEFORE, scale=0.3) for seed in (1, 2, 3)]


def gram(vectors: Sequence[Sequence[float]]) -> Dense:
    stacked = np.array(vectors, dtype=np.float64)
    return stacked @ stacked.T


class TestConflict:
    def test_equal_deltas_agree_and_are_not_diluted(self) -> None:
        found = conflict(gram([[3, 4]] * 4))
        assert found.mean_cosine == found.lowest_cosine == pytest.approx(1)
        assert (found.dilution, found.heterogeneity, found.opposed) == pytest.approx((1, 0, 0))

    @pytest.mark.parametrize("clients", [2, 5])
    def test_orthogonal_deltas_are_diluted_by_the_root_of_their_number(self, clients: int) -> None:
        found = conflict(gram(3 * np.eye(clients)))
        assert found.mean_cosine == 0
        assert found.dilution == pytest.approx(1 / math.sqrt(clients))
        assert found.heterogeneity == pytest.approx(clients - 1)

    def test_equal_cosines_give_the_known_dilution(self) -> None:
        c, clients = 0.27, 5
        found = conflict(np.full((clients, clients), c) + (1 - c) * np.eye(clients))
        assert found.mean_cosine == pytest.approx(c)
        assert found.dilution == pytest.approx(math.sqrt((1 + (clients - 1) * c) / clients))

    def test_opposed_deltas_cancel_out(self) -> None:
        found = conflict(gram([[1, 2], [-1, -2]]))
        assert (found.mean_cosine, found.opposed, found.dilution) == pytest.approx((-1, 1, 0))
        assert found.heterogeneity == math.inf

    def test_a_client_that_did_not_move_has_no_direction(self) -> None:
        found = conflict(gram([[1, 0], [0, 0], [1, 1], [0, -1]]))
        assert len(found.pairs) == 3
        assert found.lowest_cosine == pytest.approx(-1 / math.sqrt(2))
        assert found.opposed == pytest.approx(1 / 3)
        assert math.isnan(found.cosines[1, 0])

    def test_where_nobody_moved_nothing_is_known(self) -> None:
        found = conflict(np.zeros((2, 2)))
        assert all(math.isnan(figure) for figure in (found.mean_cosine, found.dilution, found.heterogeneity))

    def test_a_client_alone_agrees_with_itself(self) -> None:
        found = conflict(gram([[3, 4]]))
        assert (found.dilution, found.heterogeneity) == (1, 0)
        assert math.isnan(found.mean_cosine)


class TestGrams:
    @pytest.mark.parametrize("factor", ["A", "B"])
    def test_factors_are_kept_apart(self, factor: str) -> None:
        names = [name for name in BEFORE.tensors if f".lora_{factor}." in name]
        flat = [
            np.concatenate([(update.tensors[name].astype(float) - BEFORE.tensors[name]).ravel() for name in names])
            for update in UPDATES
        ]
        assert factor_gram(BEFORE, UPDATES, factor) == pytest.approx(gram(flat))

    def test_products_need_not_be_formed(self) -> None:
        changes = [META.scaling * (products(update) - products(BEFORE)) for update in UPDATES]
        assert product_gram(BEFORE, UPDATES) == pytest.approx(gram(changes))

    @pytest.mark.parametrize("seed", range(8))
    def test_a_client_that_did_not_move_has_no_direction_in_the_products_either(self, seed: int) -> None:
        before = adapter(seed)
        moved = [adapter(seed + step, around=before) for step in (100, 200)]
        found = conflict(product_gram(before, [before, *moved]))
        assert np.isnan(found.cosines[0]).all()
        assert np.isfinite(found.cosines[1:, 1:]).all()

    def test_products_do_not_depend_on_how_they_are_split(self) -> None:
        turned = AdapterState(
            {name: array * (2.0 if ".lora_A." in name else 0.5) for name, array in UPDATES[0].tensors.items()}, META
        )
        assert product_gram(BEFORE, [turned]) == pytest.approx(product_gram(BEFORE, UPDATES[:1]))
        assert factor_gram(BEFORE, [turned], "A") != pytest.approx(factor_gram(BEFORE, UPDATES[:1], "A"))

    def test_wide_layers_cost_no_memory(self) -> None:
        """The product would have 160 GB."""
        wide = AdapterState(
            {
                "x.lora_A.weight": np.ones((1, 200_000), dtype=np.float32),
                "x.lora_B.weight": np.ones((100_000, 1), dtype=np.float32),
            },
            META,
        )
        doubled = AdapterState({name: 2 * array for name, array in wide.tensors.items()}, META)
        assert product_gram(wide, [doubled])[0, 0] == pytest.approx(META.scaling**2 * 9 * 2e10)
        assert aggregation_error(wide, [doubled, wide], [1, 1]).of_product == pytest.approx(0.1)  # 2.25 for 2.5


class TestSigns:
    def test_equal_deltas_agree_everywhere(self) -> None:
        assert sign_agreement(BEFORE, [UPDATES[0]] * 3, "A") == 1

    def test_opposed_deltas_agree_nowhere(self) -> None:
        start = AdapterState({name: 0 * array for name, array in BEFORE.tensors.items()}, META)
        mirrored = AdapterState({name: -array for name, array in BEFORE.tensors.items()}, META)
        assert sign_agreement(start, [BEFORE, mirrored], "B") == 0

    def test_random_signs_agree_as_coins_do(self) -> None:
        assert [random_sign_agreement(clients) for clients in (1, 2, 3, 5)] == [1, 0.5, 0.5, 0.375]
        start = AdapterState({"x.lora_A.weight": np.zeros((1, 20_000), dtype=np.float32)}, META)
        generator = np.random.default_rng(0)
        moved = [
            AdapterState({"x.lora_A.weight": generator.normal(size=(1, 20_000)).astype(np.float32)}, META)
            for _ in range(5)
        ]
        assert sign_agreement(start, moved, "A") == pytest.approx(0.375, abs=0.01)


class TestGradients:
    def test_the_gradients_of_sgd_are_found_again(self) -> None:
        gradients = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
        rates = np.array([0.1, 0.2, 0.4])  # each client has walked another distance
        deltas = -rates[:, None] * gradients
        expected = np.mean(np.sum((gradients - gradients.mean(axis=0)) ** 2, axis=1))
        half = {"A": gram(deltas), "B": 4 * gram(deltas)}
        steps = {"A": rates, "B": 2 * rates}  # the B factors at twice the learning rate
        assert gradient_heterogeneity(half, steps) == pytest.approx(2 * expected)

    def test_equal_gradients_are_homogeneous(self) -> None:
        assert gradient_heterogeneity({"A": gram([[1, 2]] * 3)}, {"A": [0.1] * 3}) == pytest.approx(0, abs=1e-9)

    def test_without_a_step_there_is_no_gradient(self) -> None:
        assert math.isnan(gradient_heterogeneity({"A": gram([[1, 2], [0, 0]])}, {"A": [0.1, 0.0]}))


class TestAggregationError:
    @pytest.mark.parametrize("weights", [[1, 1, 1], [5, 1, 2]])
    def test_it_is_that_of_the_formed_products(self, weights: list[float]) -> None:
        shares = np.array(weights) / sum(weights)
        exact = sum(share * products(update) for share, update in zip(shares, UPDATES, strict=True))
        averaged = AdapterState(
            {
                name: sum(share * update.tensors[name] for share, update in zip(shares, UPDATES, strict=True))
                for name in BEFORE.tensors
            },
            META,
        )
        error = np.linalg.norm(exact - products(averaged))
        found = aggregation_error(BEFORE, UPDATES, weights)
        assert found.of_product == pytest.approx(error / np.linalg.norm(exact), rel=1e-5)
        assert found.of_update == pytest.approx(error / np.linalg.norm(exact - products(BEFORE)), rel=1e-5)

    def test_equal_clients_and_clients_with_one_factor_in_common_are_averaged_exactly(self) -> None:
        assert aggregation_error(BEFORE, [UPDATES[0]] * 3, [1, 1, 1]).of_update == pytest.approx(0, abs=1e-12)
        common = [shared_a(update, BEFORE) for update in UPDATES]
        assert aggregation_error(BEFORE, common, [1, 1, 1]).of_update == pytest.approx(0, abs=1e-12)

    def test_it_is_of_second_order_in_the_drift(self) -> None:
        far, near = (
            aggregation_error(BEFORE, [adapter(seed, around=BEFORE, scale=scale) for seed in (1, 2, 3)], [1, 1, 1])
            for scale in (1e-2, 1e-3)
        )
        assert far.of_product / near.of_product == pytest.approx(100, rel=0.1)
