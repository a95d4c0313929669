from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedse.adapters.checks import state_problems
from fedse.adapters.state import AdapterState
from fedse.errors import UpdateRejectedError
from fedse.messages.screening import validate_update
from fedse.messages.update import ClientUpdate
from helpers.small_adapters import A_NAME, META, random_state, update, with_tensor

GLOBAL = random_state(0)


def reasons(faulty: ClientUpdate, needs: set[str] | None = None) -> str:
    with pytest.raises(UpdateRejectedError) as caught:
        validate_update(faulty, round=1, global_=GLOBAL, needs=needs or set())
    assert caught.value.mend
    assert repr(faulty.client) in caught.value.what
    return caught.value.what


def test_a_sound_update_passes() -> None:
    validate_update(update("a", 1), round=1, global_=GLOBAL, needs=set())
    validate_update(update("a", 1, examples=0.0), round=1, global_=GLOBAL, needs={"examples"})


def test_another_round_is_rejected() -> None:
    assert "answers round 2" in reasons(update("a", 1, round=2))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rank": 4}, "rank"),
        ({"alpha": 8.0}, "alpha"),
        ({"target_modules": ("q_proj",)}, "target_modules"),
        ({"base_model": "other"}, "base_model"),
    ],
)
def test_an_adapter_made_for_something_else_is_rejected(change: dict[str, object], word: str) -> None:
    other = AdapterState(GLOBAL.tensors, replace(META, **change))
    assert word in reasons(ClientUpdate("a", 1, other))


def test_missing_and_extra_tensors_are_rejected() -> None:
    tensors = dict(GLOBAL.tensors)
    tensors["stranger"] = tensors.pop(A_NAME)
    what = reasons(ClientUpdate("a", 1, AdapterState(tensors, META)))
    assert f"{A_NAME} is missing" in what
    assert "stranger is not expected" in what


def test_a_shape_that_would_broadcast_is_rejected() -> None:
    assert "shape (1, 1) instead of (2, 5)" in reasons(
        ClientUpdate("a", 1, with_tensor(GLOBAL, A_NAME, np.ones((1, 1), np.float32)))
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_rejected(value: float) -> None:
    array = GLOBAL.tensors[A_NAME].copy()
    array[1, 2] = value
    assert "NaN or infinite" in reasons(ClientUpdate("a", 1, with_tensor(GLOBAL, A_NAME, array)))


def test_exactly_the_declared_scalars_are_accepted() -> None:
    assert "'examples' is missing" in reasons(update("a", 1), {"examples"})
    assert "'successes' was not asked for" in reasons(update("a", 1, successes=3.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_scalar_that_is_no_weight_is_rejected(value: float) -> None:
    assert "not a finite number" in reasons(update("a", 1, examples=value), {"examples"})


def test_a_state_is_checked_by_itself() -> None:
    assert state_problems(GLOBAL) == []
    assert state_problems(AdapterState({}, META)) == ["it holds no tensors"]
    assert "neither" in state_problems(AdapterState({"x": np.ones((2, 2), np.float32)}, META))[0]
    lonely = AdapterState({A_NAME: GLOBAL.tensors[A_NAME]}, META)
    assert "no partner" in state_problems(lonely)[0]
    wrong = with_tensor(GLOBAL, A_NAME, np.ones((3, 5), np.float32))
    assert state_problems(wrong) == [f"{A_NAME} has shape (3, 5) instead of (2, in)"]
