from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedse.adapters.checks import finite_problems, in_words, meta_problems, shape_problems, state_problems
from fedse.adapters.state import AdapterState
from helpers.small_adapters import A_NAME, META, random_state, with_tensor

SOUND = random_state(0)


def test_a_state_is_checked_by_itself() -> None:
    assert state_problems(SOUND) == []
    assert state_problems(AdapterState({}, META)) == ["it holds no tensors"]
    assert "neither" in state_problems(AdapterState({"x": np.ones((2, 2), np.float32)}, META))[0]
    lonely = AdapterState({A_NAME: SOUND.tensors[A_NAME]}, META)
    assert "no partner" in state_problems(lonely)[0]
    wrong = with_tensor(SOUND, A_NAME, np.ones((3, 5), np.float32))
    assert state_problems(wrong) == [f"{A_NAME} has shape (3, 5) instead of (2, in)"]


def test_a_state_must_be_finite() -> None:
    array = SOUND.tensors[A_NAME].copy()
    array[1, 2] = -np.inf
    assert finite_problems(with_tensor(SOUND, A_NAME, array)) == [f"{A_NAME} holds NaN or infinite values"]
    assert finite_problems(SOUND) == []


def test_two_states_are_compared_by_names_and_shapes() -> None:
    tensors = dict(SOUND.tensors)
    tensors["stranger"] = tensors.pop(A_NAME)
    assert shape_problems(AdapterState(tensors, META), SOUND) == [
        f"{A_NAME} is missing",
        "stranger is not expected",
    ]
    assert shape_problems(random_state(1), SOUND) == []


def test_what_two_adapters_were_made_for_is_compared_field_by_field() -> None:
    assert meta_problems(META, META) == []
    other = replace(META, rank=4, alpha=8.0, target_modules=("q_proj",), base_model="other")
    assert [problem.partition(" ")[0] for problem in meta_problems(other, META)] == [
        "rank",
        "alpha",
        "target_modules",
        "base_model",
    ]


def test_words_tell_the_first_problems_and_how_many_more() -> None:
    assert in_words(["a"]) == "a"
    assert in_words(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
