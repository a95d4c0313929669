"""An episode is played alike in any company: which others are in a batch, and how many threads, changes no bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedse.adapters.state import AdapterState
from fedse.agent import renderer_for
from fedse.config import LoraConfig, ModelConfig, RolloutConfig
from fedse.environments.base import EnvironmentSpec, StepResult
from fedse.models.base import cpu_flags, has_fast_bfloat16, load_base
from fedse.models.lora import LoraModel
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.torch.player import TorchPlayer
from fedse.types import Task, Trajectory
from helpers.counting_environment import Counting, Stuck


class Talkative(Counting):
    """Its observations have many lengths, so that episodes in a batch are never in step."""

    @property
    def spec(self) -> EnvironmentSpec:
        return replace(super().spec, max_response_tokens=16)

    def step(self, action: str) -> StepResult:
        result = super().step(action)
        return replace(result, observation=result.observation + " and so on" * (7 * len(action) % 31))


RULES = [
    Rules(Talkative, "Count to the end.", greedy=False, temperature=1.3),
    Rules(Talkative, "Count to the end, and be quick about it. " * 5, greedy=True),
    Rules(Talkative, "Count.", greedy=False, temperature=0.7),
    Rules(Stuck, "Count on.", greedy=False, temperature=0.7, unstick=True),
]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def player(model: str, dtype: Any, slots: int) -> tuple[TorchPlayer, AdapterState]:
    lora = LoraModel(load_base(ModelConfig(name=model, device="cpu", dtype=dtype)), LoraConfig(rank=4, alpha=8))
    generator, fresh = np.random.default_rng(0), lora.initial_state(0)
    tensors = {name: generator.normal(0, 0.05, one.shape).astype(np.float32) for name, one in fresh.tensors.items()}
    config = RolloutConfig(slots=slots, max_context=768, min_p=0.02)
    return TorchPlayer(lora, renderer_for(lora.base.tokenizer), config), AdapterState(tensors, lora.meta)


def said(played: Sequence[Sequence[Trajectory]]) -> dict[Any, Any]:
    """Tokens and log-probabilities of every episode."""
    found = {}
    for number, episodes in enumerate(played):
        for one in episodes:
            assert one.tokens is not None
            found[number, one.task.id, one.seed] = (one.tokens.ids, one.tokens.logprobs)
    return found


@pytest.mark.long
@pytest.mark.parametrize(("model", "dtype"), [("tiny", "float32"), ("nano", "float32"), ("nano", "bfloat16")])
def test_an_episode_is_played_alike_in_any_company(model: str, dtype: str) -> None:
    if dtype == "bfloat16" and not has_fast_bfloat16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    if dtype == "bfloat16" and "amx_bf16" in cpu_flags():
        pytest.skip("with AMX, oneDNN splits long sums by the number of rows")
    turns = [random.Random(number).randint(1, 4) for number in range(9)]
    requests = [EpisodeRequest(Task("counting", f"{count}/{n}"), n) for n, count in enumerate(turns)]

    torch.set_num_threads(1)
    alone, adapter = player(model, dtype, 1)
    expected = said([[alone.play(adapter, [Play([one], rules)])[0][0] for one in requests] for rules in RULES])
    assert len({ids for ids, _ in expected.values()}) > 20, "the episodes were expected to differ"
    for number, (slots, threads) in enumerate([(3, 1), (40, 2), (20, 3)]):
        torch.set_num_threads(threads)
        together, _ = player(model, dtype, slots)
        shuffled = [random.Random(number).sample(requests, len(requests)) for _ in RULES]
        found = said(together.play(adapter, [Play(some, rules) for some, rules in zip(shuffled, RULES, strict=True)]))
        assert found == expected, f"{slots} slots, {threads} threads"
