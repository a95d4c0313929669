"""Weights of examples: of the whole, of single tokens, and what they do to the update."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedse.config import TrainingConfig
from fedse.errors import TrainingError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.examples import Example
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients, batch_costs, local_update
from fedse.models.attention_switch import attention_implementation
from fedse.models.fused_lora import fused_lora
from fedse.models.lora import LoraModel
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory
from helpers.learning_reference import assert_same, examples, gradients, records, tiny_lora

RECORDS = records((40, 55, 33), shared=10)


def trajectory(record: TokenRecord | None, success: bool = True) -> Trajectory:
    task = Task("maze", "1")
    return Trajectory(task, Source.EXPERT, "", (), "", success, 1.0, StopReason.DONE, tokens=record)


def weighted(record: TokenRecord, weight: float) -> Example:
    return Example.of(trajectory(record), weight)


def learnt(lora: LoraModel, batch: list[Example], max_tokens: int = 4096) -> tuple[float, list[torch.Tensor]]:
    with fused_lora(lora), attention_implementation(lora.base.model, PACKED_ATTENTION):
        loss = accumulate_gradients(lora, pack(batch, max_tokens))
    return loss, gradients(lora)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_of_one_change_no_bit(dtype: str) -> None:
    lora = tiny_lora(dtype=dtype)
    ones = [Example(record, (1.0,) * record.agent_tokens) for record in RECORDS]
    (loss, found), (expected_loss, expected) = learnt(lora, ones), learnt(lora, examples(RECORDS))
    assert loss == expected_loss
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_weight_two_is_the_same_example_twice_in_a_batch() -> None:
    lora = tiny_lora()
    first, *others = RECORDS
    (loss, found) = learnt(lora, [weighted(first, 2.0), *examples(others)])
    (expected_loss, expected) = learnt(lora, examples([first, first, *others]))
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert_same(found, expected, 1e-6)


@pytest.mark.parametrize("max_tokens", [4096, 64])
def test_weights_are_a_weighted_mean_however_a_batch_is_split(max_tokens: int) -> None:
    lora = tiny_lora()
    parts = [learnt(lora, [one]) for one in examples(RECORDS)]
    shares = [weight * record.agent_tokens for weight, record in zip((0.5, 2.0, 1.0), RECORDS, strict=True)]
    batch = [weighted(record, weight) for weight, record in zip((0.5, 2.0, 1.0), RECORDS, strict=True)]
    loss, found = learnt(lora, batch, max_tokens)
    total = sum(shares)
    assert loss == pytest.approx(sum(share * part for share, (part, _) in zip(shares, parts, strict=True)) / total)
    expected = [
        sum(share * grads[index] for share, (_, grads) in zip(shares, parts, strict=True)) / total
        for index in range(len(found))
    ]
    assert_same(found, expected, 1e-6)


def test_weight_zero_leaves_an_example_out() -> None:
    lora = tiny_lora()
    first, *others = RECORDS
    (loss, found), (expected_loss, expected) = (
        learnt(lora, [weighted(first, 0.0), *examples(others)]),
        learnt(lora, examples(others)),
    )
    assert loss == expected_loss
    assert_same(found, expected, 0.0)
    settings = TrainingConfig(steps=1, batch_size=8)
    assert local_update(lora, [weighted(first, 0.0), *examples(others)], settings, seed=0).examples == 2
    with pytest.raises(TrainingError, match="no token of 1 example carries loss"):
        local_update(lora, [weighted(first, 0.0)], settings, seed=0)


def test_a_token_of_weight_zero_is_read_and_not_learnt() -> None:
    record = TokenRecord(tuple(range(20, 60)), ((10, 14), (30, 33)), "t")
    some = Example(record, (0.0, 0.0, 1.0, 2.0, 0.5, 0.0, 0.0))
    assert [loss[:2] for loss in some.losses()] == [(11, 1.0), (12, 2.0), (29, 0.5)]
    (batch,) = pack([some], 100)
    assert batch.targets.tolist() == [32, 33, 50]
    assert batch.weights.tolist() == [1.0, 2.0, 0.5]
    assert batch.ids.shape == (1, 30)
    settings = TrainingConfig(steps=1, batch_tokens=10)
    assert batch_costs([some, Example(record)], settings) == ([3, 7], 10)
    lora = tiny_lora()
    whole = replace(record, spans=((12, 14), (30, 31)))
    loss, found = learnt(lora, [some])
    expected_loss, expected = learnt(lora, [Example(whole, (1.0, 2.0, 0.5))])
    assert loss == expected_loss
    assert_same(found, expected, 0.0)


def test_weights_that_make_no_sense_are_refused() -> None:
    record = RECORDS[0]
    with pytest.raises(TrainingError, match="2 weights for 7 tokens"):
        Example(record, (1.0, 1.0))
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(TrainingError, match="finite weights of 0 or more"):
            weighted(record, wrong)


def test_a_trajectory_without_tokens_is_an_error() -> None:
    with pytest.raises(TrainingError, match="maze:1 carries no tokens"):
        Example.of(trajectory(None))
