"""Learning from attempts, won and lost: the clipped policy gradient beside the likelihood of demonstrations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from fedse.config import TrainingConfig
from fedse.errors import TrainingError
from fedse.experience.credit import advantages
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.examples import Example, Stream
from fedse.learning.packing import mixed_batches, pack
from fedse.learning.update import _shares, accumulate_gradients, local_update
from fedse.models.attention_switch import attention_implementation
from fedse.models.fused_lora import fused_lora
from fedse.models.lora import LoraModel
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory
from helpers.learning_reference import assert_same, gradients, records, tiny_lora

RECORDS = records((40, 55, 33), shared=10)


def logprobs_of(lora: LoraModel, record: TokenRecord, temperature: float) -> torch.Tensor:
    """Of the agent's tokens, by peft's own layers."""
    logits = lora.base.model(torch.tensor([record.ids])).logits[0].float() / temperature
    every = functional.log_softmax(logits[:-1], dim=-1).gather(1, torch.tensor(record.ids[1:])[:, None])[:, 0]
    return every[torch.from_numpy(record.mask())[1:]]


def attempt(
    lora: LoraModel, record: TokenRecord, advantage: float, *, moved: float = 0.0, temperature: float = 1.0
) -> Example:
    """An attempt whose tokens were drawn with the probabilities of now, or with e^moved times less."""
    drawn = tuple((logprobs_of(lora, record, temperature).detach() - moved).tolist())
    tokens = replace(record, logprobs=drawn, temperature=temperature)
    return Example(tokens, (advantage,) * record.agent_tokens, on_policy=True)


def learnt(lora: LoraModel, batch: list[Example], clip: float = 0.2) -> tuple[float, list[torch.Tensor]]:
    with fused_lora(lora), attention_implementation(lora.base.model, PACKED_ATTENTION):
        loss = accumulate_gradients(lora, pack(batch, 4096), clip)
    return loss, gradients(lora)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("moved", [0.0, 0.1, -0.1, 0.5, -0.5])
def test_the_update_is_that_of_the_clipped_surrogate(moved: float, temperature: float) -> None:
    lora = tiny_lora()
    signs = (1.0, -0.5, 0.25)
    batch = [
        attempt(lora, record, sign, moved=moved, temperature=temperature)
        for record, sign in zip(RECORDS, signs, strict=True)
    ]
    loss, found = learnt(lora, batch)
    lora.base.model.zero_grad()
    surrogate = torch.zeros(())
    for example, record, sign in zip(batch, RECORDS, signs, strict=True):
        ratio = (logprobs_of(lora, record, temperature) - torch.tensor(example.tokens.logprobs)).exp()
        surrogate = surrogate - torch.minimum(ratio * sign, ratio.clamp(0.8, 1.2) * sign).sum()
    expected = surrogate / sum(abs(sign) * record.agent_tokens for sign, record in zip(signs, RECORDS, strict=True))
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4)
    assert_same(found, gradients(lora), 1e-5)


def test_a_won_attempt_becomes_more_and_a_lost_one_less_likely() -> None:
    for advantage in (0.5, -0.5):
        lora = tiny_lora()
        before = float(logprobs_of(lora, RECORDS[0], 1.0).sum().detach())
        settings = TrainingConfig(steps=3, learning_rate=1e-3)
        local_update(lora, [attempt(lora, RECORDS[0], advantage)], settings, seed=0)
        assert (float(logprobs_of(lora, RECORDS[0], 1.0).sum()) > before) is (advantage > 0)


def test_demonstrations_in_the_same_batch_are_learnt_by_likelihood() -> None:
    lora = tiny_lora()
    alone = [learnt(lora, [one]) for one in (Example(RECORDS[0]), attempt(lora, RECORDS[1], 0.5))]
    _, found = learnt(lora, [Example(RECORDS[0]), attempt(lora, RECORDS[1], 0.5)])
    shares = [RECORDS[0].agent_tokens, 0.5 * RECORDS[1].agent_tokens]
    expected = [
        sum(share * grads[index] for share, (_, grads) in zip(shares, alone, strict=True)) / sum(shares)
        for index in range(len(found))
    ]
    assert_same(found, expected, 1e-6)


def test_attempts_without_log_probabilities_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"objective=sft"):
        Example(RECORDS[0], (-1.0,) * RECORDS[0].agent_tokens, on_policy=True)


def episode(task: str, success: bool | None) -> Trajectory:
    stop = StopReason.ERROR if success is None else StopReason.DONE
    return Trajectory(
        Task("maze", task), Source.POLICY, "", (), "", success, 0.0, stop, error="" if success is not None else "x"
    )


def test_an_attempt_counts_by_how_much_better_it_did_than_its_task() -> None:
    played = [episode("a", True), episode("a", False), episode("b", False), episode("b", False), episode("c", None)]
    # One of four was won: task a is expected to be won by (1 + ¼) / 3, task b by (0 + ¼) / 3.
    expected = [1 - 1.25 / 3, -1.25 / 3, -0.25 / 3, -0.25 / 3, 0.0]
    assert advantages(played) == pytest.approx(expected)


def test_batches_keep_to_the_shares() -> None:
    costs = [10] * 3 + [20] * 40 + [30] * 100
    streams = [Stream.DEMONSTRATION] * 3 + [Stream.RECENT] * 40 + [Stream.EARLIER] * 100
    shares = {Stream.DEMONSTRATION: 0.2, Stream.RECENT: 0.5, Stream.EARLIER: 0.3}
    drawn: Counter[Stream] = Counter()
    made = list(islice(mixed_batches(costs, streams, shares, 100, seed=1), 50))
    for batch in made:
        assert len(set(batch)) == len(batch)
        for index in batch:
            drawn[streams[index]] += costs[index]
    for stream, share in shares.items():
        assert drawn[stream] == pytest.approx(50 * 100 * share, abs=30)
    assert made == list(islice(mixed_batches(costs, streams, shares, 100, seed=1), 50))


def test_a_stream_with_little_in_it_gives_what_it_has() -> None:
    shares = {Stream.DEMONSTRATION: 0.5, Stream.RECENT: 0.5}
    streams = [Stream.DEMONSTRATION, *[Stream.RECENT] * 9]
    for batch in islice(mixed_batches([10] * 10, streams, shares, 60, seed=0), 5):
        assert batch.count(0) == 1
        assert len(batch) == 4


def test_a_batch_is_never_empty_however_long_its_examples_are() -> None:
    """One that is longer than two batches uses up the shares of the next; every optimizer step still has something."""
    streams = [Stream.DEMONSTRATION, Stream.DEMONSTRATION]
    made = list(islice(mixed_batches([250, 30], streams, {Stream.DEMONSTRATION: 1.0}, 100, seed=0), 20))
    assert all(made)
    assert {index for batch in made for index in batch} == {0, 1}


@pytest.mark.parametrize(
    ("streams", "settings", "expected"),
    [
        ("drre", {}, {}),
        ("drre", {"demonstration_share": 0.25}, {"d": 0.25, "r": 0.375, "e": 0.375}),
        ("drre", {"demonstration_share": 0.25, "recent_share": 0.5}, {"d": 0.25, "r": 0.5, "e": 0.25}),
        ("rre", {"demonstration_share": 0.25, "recent_share": 0.5}, {"r": 0.5, "e": 0.5}),
        ("dd", {"demonstration_share": 0.25, "recent_share": 0.5}, {"d": 1.0}),
        ("dre", {"demonstration_share": 0.0}, {"r": 0.5, "e": 0.5}),
        ("dd", {"demonstration_share": 0.0}, {"d": 1.0}),
        ("dr", {"demonstration_share": 0.25, "recent_share": 0.25}, {"d": 0.5, "r": 0.5}),
    ],
)
def test_what_a_stream_that_is_not_there_would_have_goes_to_the_others(
    streams: str, settings: dict[str, float], expected: dict[str, float]
) -> None:
    names = {"d": Stream.DEMONSTRATION, "r": Stream.RECENT, "e": Stream.EARLIER}
    examples = [Example(RECORDS[0], stream=names[letter]) for letter in streams]
    assert _shares(examples, TrainingConfig(**settings)) == pytest.approx(
        {names[letter]: share for letter, share in expected.items()}
    )


def test_more_than_a_whole_batch_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"at most 1 together with demonstration_share, which is 0\.6"):
        TrainingConfig(demonstration_share=0.6, recent_share=0.5)
