from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from fedse.errors import ModelError
from fedse.models.attention_switch import attention_implementation
from fedse.models.tiny import tiny_model


def constant_attention(
    module: torch.nn.Module, query: torch.Tensor, *args: object, **kwargs: object
) -> tuple[torch.Tensor, None]:
    return torch.zeros_like(query).transpose(1, 2), None


AttentionInterface.register("constant-for-this-test", constant_attention)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits


def test_the_named_function_computes_inside_the_block_only() -> None:
    model = tiny_model()
    before = model.config._attn_implementation
    plain = logits(model)
    with attention_implementation(model, "constant-for-this-test"):
        assert not torch.allclose(logits(model), plain)
    assert model.config._attn_implementation == before
    assert torch.equal(logits(model), plain)


def test_the_implementation_comes_back_after_an_error() -> None:
    model = tiny_model()
    before = model.config._attn_implementation
    with pytest.raises(KeyboardInterrupt), attention_implementation(model, "eager"):
        raise KeyboardInterrupt
    assert model.config._attn_implementation == before


def test_an_unregistered_name_is_refused() -> None:
    with (
        pytest.raises(ModelError, match="registered under 'nothing'"),
        attention_implementation(tiny_model(), "nothing"),
    ):
        pass
