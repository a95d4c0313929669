"""Parts of an adapter: taken out, put back, and side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.parts import FACTORS, Trained, side_by_side
from fedse.adapters.state import AdapterMeta
from fedse.errors import AdapterError
from helpers.small_adapters import random_state, with_tensor

PARTS = st.builds(
    Trained,
    st.sampled_from([("A",), ("B",), FACTORS]),
    st.sampled_from([None, (0,), (1,), (0, 1)]),
)


@given(PARTS)
def test_what_is_put_back_is_the_part_and_nothing_else(part: Trained) -> None:
    whole, other = random_state(1), random_state(2)
    mixed = part.into(whole, part.of(other))
    assert part.of(mixed).digest == part.of(other).digest
    assert part.into(mixed, part.of(whole)).digest == whole.digest
    assert part.into(whole, part.of(whole)).digest == whole.digest


def test_of_some_components_only_b_may_be_trained() -> None:
    part, whole, other = Trained(ranks=(0, 1), b_only=(1,)), random_state(1), random_state(2)
    mixed = part.into(whole, part.of(other))
    assert Trained(ranks=(0,)).of(mixed).digest == Trained(ranks=(0,)).of(other).digest
    assert Trained(("A",), (1,)).of(mixed).digest == Trained(("A",), (1,)).of(whole).digest
    assert Trained(("B",), (1,)).of(mixed).digest == Trained(("B",), (1,)).of(other).digest
    with pytest.raises(AdapterError, match="not among"):
        Trained(ranks=(0,), b_only=(1,)).of(whole)


def test_a_block_keeps_the_scaling() -> None:
    block = Trained(ranks=(1,)).of(random_state(1))
    assert (block.meta.rank, block.meta.scaling) == (1, random_state(1).meta.scaling)
    assert {array.shape for array in block.tensors.values()} == {(1, 5), (3, 1), (1, 4), (6, 1)}


def test_blocks_side_by_side_compute_their_sum() -> None:
    one, two = random_state(1), random_state(2)
    both = side_by_side([one, two])
    assert (both.meta.rank, both.meta.scaling) == (4, one.meta.scaling)
    for layer in layers(one):
        (b, a), (b1, a1), (b2, a2) = (factors_of(state, layer) for state in (both, one, two))
        np.testing.assert_allclose(b @ a, b1 @ a1 + b2 @ a2, rtol=1e-12)


def test_an_adapter_is_its_blocks_side_by_side() -> None:
    whole = random_state(1)
    assert side_by_side([Trained(ranks=(index,)).of(whole) for index in (0, 1)]).digest == whole.digest


def test_blocks_of_another_scaling_are_refused() -> None:
    meta = AdapterMeta(2, 8.0, random_state(1).meta.target_modules, random_state(1).meta.base_model)
    with pytest.raises(AdapterError, match="scaling"):
        side_by_side([random_state(1), random_state(2, meta=meta)])
    with pytest.raises(AdapterError, match="names"):
        side_by_side([random_state(1), with_tensor(random_state(2), "other.lora_A.weight", np.ones((2, 3)))])


@pytest.mark.parametrize("ranks", [(), (0, 0), (1, 0), (2,), (-1,)])
def test_a_part_that_is_not_there_is_refused(ranks: tuple[int, ...]) -> None:
    with pytest.raises(AdapterError, match="of an adapter of rank 2"):
        Trained(ranks=ranks).of(random_state(1))
