"""What a reply must be before a strategy sees it; the server's tests show what becomes of one that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedse.adapters.state import SUFFIX_A, AdapterState
from fedse.messages import Done, Instruction, PhaseSummary, Purpose, Rates, Refused, Reply, SiteReport, Update
from fedse.messages.screening import reply_problems
from fedse.progress import Phase
from helpers.small_adapters import A_NAME, META, random_state, update, with_tensor

SENT = random_state(0)


def problems(answer: Update, *needs: str, sent: AdapterState = SENT) -> str:
    asked = Instruction(site="a", purpose=Purpose.ROUND, round=1, adapter=sent, needs=needs)
    reply = Reply(site="a", purpose=Purpose.ROUND, round=1, answer=answer)
    return "; ".join(reply_problems(reply, asked, ["a"]))


def test_a_sound_update_passes() -> None:
    assert problems(update(1)) == ""
    assert problems(update(1, examples=0.0), "examples") == ""


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
    assert word in problems(Update(adapter=AdapterState(SENT.tensors, replace(META, **change))))


def test_missing_and_extra_tensors_are_rejected() -> None:
    tensors = dict(SENT.tensors)
    tensors["stranger"] = tensors.pop(A_NAME)
    what = problems(Update(adapter=AdapterState(tensors, META)))
    assert f"{A_NAME} is missing" in what
    assert "stranger is not expected" in what


def test_a_site_that_was_sent_a_part_must_send_that_part() -> None:
    part = AdapterState({name: array for name, array in SENT.tensors.items() if name.endswith(SUFFIX_A)}, META)
    assert problems(Update(adapter=part), sent=part) == ""
    assert "is not expected" in problems(update(1), sent=part)


def test_a_shape_that_would_broadcast_is_rejected() -> None:
    narrow = Update(adapter=with_tensor(SENT, A_NAME, np.ones((1, 1), np.float32)))
    assert "shape (1, 1) instead of (2, 5)" in problems(narrow)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_rejected(value: float) -> None:
    array = SENT.tensors[A_NAME].copy()
    array[1, 2] = value
    assert "NaN or infinite" in problems(Update(adapter=with_tensor(SENT, A_NAME, array)))
    assert "'x' is not finite" in problems(Update(adapter=SENT, tensors={"x": array}))


def test_exactly_the_declared_scalars_are_accepted() -> None:
    assert "'examples' is missing" in problems(update(1), "examples")
    assert "'successes' was not asked for" in problems(update(1, successes=3.0))


def test_a_scalar_that_is_no_weight_is_rejected() -> None:
    assert "not a finite number ≥ 0" in problems(update(1, examples=-1.0), "examples")


def test_a_reply_answers_the_instruction_that_was_sent() -> None:
    asked = Instruction(site="a", purpose=Purpose.EVALUATE, round=1, adapter=SENT)
    other = Reply(site="b", purpose=Purpose.ROUND, round=2, answer=update(1))
    assert reply_problems(other, asked, ["a"]) == [
        "it is from site b, but a was asked",
        "it is from purpose round, but evaluate was asked",
        "it is from round 2, but 1 was asked",
        "'update' is no answer to 'evaluate'",
    ]


@pytest.mark.parametrize("purpose", list(Purpose))
def test_every_purpose_may_be_refused_and_none_answered_with_anything_else(purpose: Purpose) -> None:
    asked = Instruction(site="a", purpose=purpose)
    refusal = Reply(site="a", purpose=purpose, round=0, answer=Refused(reason="StorageError"))
    assert reply_problems(refusal, asked, ["a"]) == []
    rates = Rates(successes=0, episodes=1, errors=0, low=0.0, high=1.0)
    found = reply_problems(Reply(site="a", purpose=purpose, round=0, answer=rates), asked, ["a"])
    assert found == ([] if purpose is Purpose.EVALUATE else [f"'rates' is no answer to '{purpose.value}'"])


def test_a_site_tells_of_itself_and_its_environments_alone() -> None:
    asked = Instruction(site="a", purpose=Purpose.DEMONSTRATE)
    told = SiteReport(phases={name: {Phase.DEMONSTRATE: PhaseSummary(episodes=1)} for name in ("a", "b", "maze")})
    reply = Reply(site="a", purpose=Purpose.DEMONSTRATE, round=0, answer=Done(), report=told)
    assert reply_problems(reply, asked, ["a", "maze"]) == ["it tells of 'b', which is not at this site"]
