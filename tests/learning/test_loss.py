from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import Gemma2Config, MistralConfig

from fedse.errors import ModelError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.loss import agent_loss, token_loss
from fedse.learning.packing import MicroBatch, PackedLayout, pack
from fedse.models.attention_switch import attention_implementation
from helpers.learning_reference import SMALL, examples, lora_on, records


@pytest.mark.parametrize("bias", [False, True])
def test_chunks_do_not_change_the_loss_or_its_gradient(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    monkeypatch.setattr("fedse.learning.loss._LOGITS_AT_ONCE", 50 * 7)  # seven rows of fifty logits at once
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (23,), generator=generator)
    weights = torch.rand(23, generator=generator)
    head = nn.Linear(16, 50, bias=bias).requires_grad_(False)
    nothing = torch.empty(1, 0, dtype=torch.long)
    batch = MicroBatch(
        ids=nothing,
        positions=nothing,
        layout=PackedLayout(0, ()),
        loss_positions=nothing[0],
        targets=targets,
        weights=weights,
        references=torch.full((23,), float("nan")),
        temperatures=torch.ones(23),
        tokens=0,
    )
    found = token_loss(hidden, batch, head, clip=0.2) * 0.5
    expected = (functional.cross_entropy(head(hidden), targets, reduction="none") * weights).sum() * 0.5
    torch.testing.assert_close(found, expected)
    gradient, expected_gradient = (torch.autograd.grad(loss, hidden)[0] for loss in (found, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_a_window_shorter_than_a_trajectory_is_refused() -> None:
    model = lora_on(MistralConfig(**SMALL, sliding_window=32)).base.model
    with attention_implementation(model, PACKED_ATTENTION):
        agent_loss(model, pack(examples(records((30, 30))), 4096)[0])
        with pytest.raises(ModelError, match="sliding window of 32 tokens"):
            agent_loss(model, pack(examples(records((40,))), 4096)[0])


def test_capped_attention_scores_are_refused() -> None:
    model = lora_on(Gemma2Config(**SMALL, head_dim=8)).base.model
    with attention_implementation(model, PACKED_ATTENTION), pytest.raises(ModelError, match="softcap"):
        agent_loss(model, pack(examples(records((30,))), 4096)[0])
