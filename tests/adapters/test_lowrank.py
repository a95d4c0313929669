"""Sums of products in factored form, against dense ones in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.lowrank import Term, nearest, product_svd
from fedse.adapters.parts import Trained, resized
from helpers.small_adapters import META, random_state


def drawn(seed: int, out: int, width: int, ranks: list[int]) -> list[Term]:
    generator = np.random.default_rng(seed)
    return [(generator.normal(size=(out, rank)), generator.normal(size=(rank, width))) for rank in ranks]


SHAPES = st.integers(1, 12)


@given(st.integers(0, 100), SHAPES, SHAPES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_it_is_the_svd_of_the_sum(seed: int, out: int, width: int, ranks: list[int]) -> None:
    terms = drawn(seed, out, width, ranks)
    dense = sum(b @ a for b, a in terms)
    u, values, vt = product_svd(terms)
    count = min(out, width, sum(ranks))
    assert (u.shape, values.shape, vt.shape) == ((out, count), (count,), (count, width))
    np.testing.assert_allclose((u * values) @ vt, dense, atol=1e-12 * (1 + np.abs(dense).max()))
    np.testing.assert_allclose(values, np.linalg.svd(dense, compute_uv=False)[:count], atol=1e-12 * (1 + values[0]))
    np.testing.assert_allclose(u.T @ u, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(vt @ vt.T, np.eye(count), atol=1e-12)
    assert (vt.max(axis=1) >= -vt.min(axis=1)).all()


@given(st.integers(0, 100), st.integers(1, 6))
def test_the_error_of_the_nearest_is_the_tail_of_the_singular_values(seed: int, rank: int) -> None:
    states = [random_state(seed + 1000 * index) for index in range(3)]
    terms = {layer: [factors_of(state, layer) for state in states] for layer in layers(states[0])}
    found, lost = nearest(terms, rank, META)
    assert (found.meta.rank, found.meta.scaling) == (rank, META.scaling)
    cut = whole = 0.0
    for layer, products in terms.items():
        dense = sum(b @ a for b, a in products)
        b, a = factors_of(found, layer)
        tail = np.linalg.svd(dense, compute_uv=False)[rank:]
        assert np.linalg.norm(dense - b @ a) == pytest.approx(np.linalg.norm(tail), rel=1e-6, abs=1e-5)
        cut, whole = cut + float(tail @ tail), whole + float(np.sum(dense**2))
    assert lost == pytest.approx(np.sqrt(cut / whole), abs=1e-9)


def test_its_first_components_are_the_nearest_of_a_lower_rank() -> None:
    terms = {layer: [factors_of(random_state(seed), layer) for seed in (0, 1)] for layer in layers(random_state(0))}
    assert resized(nearest(terms, 4, META)[0], 2).digest == nearest(terms, 2, META)[0].digest


def test_of_nothing_nothing_is_lost() -> None:
    state = random_state(0)
    terms = {layer: [(0 * b, a)] for layer in layers(state) for b, a in [factors_of(state, layer)]}
    found, lost = nearest(terms, 2, META)
    assert lost == 0.0
    assert not any(array.any() for array in Trained(("B",)).of(found).tensors.values())


def test_an_adapter_is_cut_or_padded_along_its_rank() -> None:
    state = random_state(0)
    larger = resized(state, 5)
    assert (larger.meta.rank, larger.meta.scaling) == (5, state.meta.scaling)
    assert resized(larger, 2).digest == state.digest
    assert resized(state, 2) is state
    behind = Trained(ranks=(2, 3, 4)).of(larger)
    assert not any(array.any() for array in behind.tensors.values())
