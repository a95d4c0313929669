"""Rules on the changes of products, beside references with dense matrices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.errors import ConfigError
from fedse.federation.strategies import State, Updates, held, make_strategy
from fedse.federation.strategies.consensus import AGREEMENT
from fedse.federation.strategies.core import Core
from fedse.federation.strategies.stepping import CUT
from fedse.messages import Update

RANK = 6
META = AdapterMeta(rank=RANK, alpha=12.0, target_modules=("k_proj", "q_proj"), base_model="0123456789abcdef")
SIZES = {"base_model.model.layers.0.q_proj": (40, 30), "base_model.model.layers.0.k_proj": (25, 50)}
Dense = dict[str, np.ndarray]
NAMES = ("iso", "tsv", "consensus")


def adapter(seed: int, *, around: AdapterState | None = None, size: float = 1.0) -> AdapterState:
    generator = np.random.default_rng(seed)
    tensors = {}
    for layer, (out, into) in SIZES.items():
        for name, shape in ((layer + SUFFIX_A, (RANK, into)), (layer + SUFFIX_B, (out, RANK))):
            start = 0.0 if around is None else around.tensors[name]
            tensors[name] = (start + size * generator.normal(size=shape)).astype(np.float32)
    return AdapterState(tensors, META)


BEFORE = adapter(0)
UPDATES = [adapter(seed, around=BEFORE, size=0.4) for seed in (1, 2, 3)]


def products(state: AdapterState) -> Dense:
    return {layer: b @ a for layer in layers(state) for b, a in [factors_of(state, layer)]}


def absorbed(name: str, adapters: Sequence[AdapterState], start: AdapterState = BEFORE, **options: float) -> State:
    strategy = make_strategy(name, options)
    updates = {f"s{index}": Update(adapter=one) for index, one in enumerate(adapters)}
    return strategy.absorb(strategy.initial(start, dict.fromkeys(updates, 2)), Updates.of(updates))


def nearest(matrix: np.ndarray, rank: int = RANK) -> np.ndarray:
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * values[:rank]) @ vt[:rank]


def iso_c(changes: Sequence[np.ndarray]) -> np.ndarray:
    u, values, vt = np.linalg.svd(sum(changes), full_matrices=False)
    return values[:RANK].mean() * u[:, :RANK] @ vt[:RANK]


def iso_cts(changes: Sequence[np.ndarray]) -> np.ndarray:
    """With one direction of its own for each of three sites."""
    u, values, vt = np.linalg.svd(sum(changes), full_matrices=False)
    common = RANK - len(changes)
    u, values, vt = u[:, :common], values[:common], vt[:common]
    own = [np.linalg.svd(change - u @ u.T @ change, full_matrices=False) for change in changes]
    left = np.concatenate([*(part[0][:, :1] for part in own), u], axis=1)
    right = np.concatenate([*(part[2][:1] for part in own), vt], axis=0)
    mean = np.concatenate([*(part[1][:1] for part in own), values]).mean()
    whitened = [one @ other for one, _, other in (np.linalg.svd(side, full_matrices=False) for side in (left, right))]
    return mean * whitened[0] @ whitened[1]


def tsv_m(changes: Sequence[np.ndarray]) -> np.ndarray:
    """All changes share the columns of B and the rows of A, so that the sites' directions are not independent."""
    own = [np.linalg.svd(change, full_matrices=False) for change in changes]
    left = np.concatenate([part[0][:, : 2 * RANK] for part in own], axis=1)
    right = np.concatenate([part[2][: 2 * RANK] for part in own], axis=0)
    values = np.concatenate([part[1][: 2 * RANK] for part in own])
    return left @ inverse_root(left.T @ left) @ np.diag(values) @ inverse_root(right @ right.T) @ right


def inverse_root(gram: np.ndarray) -> np.ndarray:
    """The power −1/2 on what the matrix does not annihilate."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T


def consensus(changes: Sequence[np.ndarray]) -> np.ndarray:
    u, values, vt = np.linalg.svd(sum(changes), full_matrices=False)
    merged = np.zeros_like(changes[0])
    for p, value, q in zip(u.T, values, vt, strict=True):
        if value > 1e-9 * values[0]:
            own = np.array([p @ change @ q for change in changes])
            merged += value / (np.abs(own).sum() ** 2 / (own**2).sum()) * np.outer(p, q)
    bound = np.sqrt(len(changes)) * np.median([np.linalg.norm(change) for change in changes])
    return merged * min(1.0, bound / np.linalg.norm(merged))


RULES: dict[str, tuple[str, dict[str, float], Callable[[Sequence[np.ndarray]], np.ndarray]]] = {
    "Iso-C": ("iso", {}, iso_c),
    "Iso-CTS": ("iso", {"specific": 0.5}, iso_cts),
    "TSV-M": ("tsv", {}, tsv_m),
    "consensus": ("consensus", {}, consensus),
}


@pytest.mark.parametrize("rule", RULES)
class TestDenseReferences:
    @pytest.mark.parametrize("server_lr", [1.0, 0.4])
    def test_it_is_the_nearest_adapter_to_the_rule_on_dense_matrices(self, rule: str, server_lr: float) -> None:
        name, options, dense = RULES[rule]
        state = absorbed(name, UPDATES, server_lr=server_lr, **options)
        before, sent = products(BEFORE), [products(update) for update in UPDATES]
        cut = whole = 0.0
        for layer, found in products(state.adapter()).items():
            wanted = before[layer] + server_lr * dense([one[layer] - before[layer] for one in sent])
            np.testing.assert_allclose(found, nearest(wanted), atol=1e-4 * np.abs(wanted).max())
            cut += np.linalg.norm(wanted - nearest(wanted)) ** 2
            whole += np.linalg.norm(wanted) ** 2
        assert state.numbers[CUT] == pytest.approx(np.sqrt(cut / whole), rel=1e-6)

    def test_the_merged_change_itself_is_that_of_dense_matrices(self, rule: str) -> None:
        name, options, dense = RULES[rule]
        layer = next(iter(SIZES))
        factors = [factors_of(one, layer) for one in UPDATES]
        core = Core.of(factors_of(BEFORE, layer), *(np.stack(side) for side in zip(*factors, strict=True)))
        merged, _ = make_strategy(name, options).merge(core)  # type: ignore[attr-defined]
        start = np.matmul(*factors_of(BEFORE, layer))
        wanted = dense([b @ a - start for b, a in factors])
        np.testing.assert_allclose(core.columns @ merged @ core.rows, wanted, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["tsv", "consensus"])
class TestAgreement:
    def test_equal_updates_make_that_update(self, name: str) -> None:
        state = absorbed(name, [UPDATES[0]] * 4)
        for layer, found in products(state.adapter()).items():
            np.testing.assert_allclose(found, products(UPDATES[0])[layer], atol=1e-4)
        assert state.numbers[CUT] < 1e-6

    def test_updates_that_share_nothing_make_their_sum(self, name: str) -> None:
        """Each site moves one component of A and B, and no two the same rows or columns."""
        zero = AdapterState({n: np.zeros_like(a) for n, a in BEFORE.tensors.items()}, META)
        updates = []
        for site in range(3):
            tensors = {}
            for layer, (out, into) in SIZES.items():
                a, b = np.zeros((RANK, into), np.float32), np.zeros((out, RANK), np.float32)
                a[0, 3 * site : 3 * site + 3] = 1 + site
                b[3 * site : 3 * site + 3, 0] = 1.0
                tensors |= {layer + SUFFIX_A: a, layer + SUFFIX_B: b}
            updates.append(AdapterState(tensors, META))
        state = absorbed(name, updates, start=zero)
        if name == "consensus":
            assert state.numbers[f"{AGREEMENT}1"] == pytest.approx(1.0)
        total = {layer: sum(products(update)[layer] for update in updates) for layer in SIZES}
        for layer, found in products(state.adapter()).items():
            scale = np.linalg.norm(found) / np.linalg.norm(total[layer])
            np.testing.assert_allclose(found, scale * total[layer], atol=1e-5)
            # Lengths 1, 2 and 3: their sum is a little longer than that of three of length 2.
            assert scale == pytest.approx(1.0 if name == "tsv" else np.sqrt(3 * 4 / 14), rel=1e-5)


def test_the_histogram_of_agreement_tells_who_agrees() -> None:
    assert absorbed("consensus", [UPDATES[0]] * 4).numbers[f"{AGREEMENT}4"] == pytest.approx(1.0)
    shares = absorbed("consensus", UPDATES).numbers
    assert sum(value for key, value in shares.items() if key.startswith(AGREEMENT)) == pytest.approx(1.0)


def test_consensus_is_never_longer_than_the_sum_of_orthogonal_updates() -> None:
    long = AdapterState({n: a * (1 + 9 * n.endswith(SUFFIX_B)) for n, a in UPDATES[2].tensors.items()}, META)
    layer = next(iter(SIZES))
    changes = [products(one)[layer] - products(BEFORE)[layer] for one in (*UPDATES[:2], long)]
    factors = [factors_of(one, layer) for one in (*UPDATES[:2], long)]
    core = Core.of(factors_of(BEFORE, layer), *(np.stack(side) for side in zip(*factors, strict=True)))
    merged, _ = make_strategy("consensus", {}).merge(core)  # type: ignore[attr-defined]
    bound = np.sqrt(3) * np.median([np.linalg.norm(one) for one in changes])
    assert np.linalg.norm(merged) == pytest.approx(bound)


@pytest.mark.parametrize("name", NAMES)
class TestAll:
    def test_where_nobody_moves_nothing_moves(self, name: str) -> None:
        state = absorbed(name, [BEFORE] * 3)
        for layer, found in products(state.adapter()).items():
            np.testing.assert_allclose(found, products(BEFORE)[layer], atol=1e-4)

    def test_in_the_first_round_b_is_zero(self, name: str) -> None:
        start = AdapterState({n: a * n.endswith(SUFFIX_A) for n, a in BEFORE.tensors.items()}, META)
        state = absorbed(name, UPDATES, start=start)
        assert all(np.linalg.norm(product) > 1 for product in products(state.adapter()).values())

    def test_wherever_updates_lie_the_bits_are_the_same(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        first = absorbed(name, UPDATES).adapter()
        monkeypatch.setattr(held, "_IN_MEMORY", 0)
        assert absorbed(name, UPDATES).adapter().digest == first.digest

    def test_no_product_is_formed(self, name: str) -> None:
        width = 3000
        generator = np.random.default_rng(0)
        meta = AdapterMeta(rank=2, alpha=4.0, target_modules=("q_proj",), base_model="0123456789abcdef")
        wide = [
            AdapterState(
                {
                    f"q_proj{SUFFIX_A}": generator.normal(size=(2, width)).astype(np.float32),
                    f"q_proj{SUFFIX_B}": generator.normal(size=(width, 2)).astype(np.float32),
                },
                meta,
            )
            for _ in range(4)
        ]
        absorbed(name, wide[1:], start=wide[0])  # what is loaded for the first time does not count
        tracemalloc.start()
        absorbed(name, wide[1:], start=wide[0])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * width * width / 10


@pytest.mark.parametrize("options", [{"specific": -0.1}, {"specific": 1.1}])
def test_no_share_of_the_directions_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="specific is"):
        make_strategy("iso", options)


@pytest.mark.parametrize("name", NAMES)
def test_their_step_does_not_choose_itself(name: str) -> None:
    with pytest.raises(ConfigError, match="server_lr"):
        make_strategy(name, {"server_lr": "auto"})
