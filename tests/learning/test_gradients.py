"""The fast path against the textbook one: same loss, same gradients."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from fedse.learning.attention import PACKED_ATTENTION, _BlockwiseAttention, laid_out, packed_attention, sdpa_by_segment
from fedse.learning.attention_kernel import KernelAttention
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients
from fedse.models.attention_switch import attention_implementation
from fedse.models.fused_lora import FusedLoraLinear, fused_lora
from fedse.models.lora import LoraModel
from fedse.types import TokenRecord
from helpers.learning_reference import (
    SMALL,
    assert_same,
    examples,
    gradients,
    lora_on,
    records,
    reference_loss,
    tiny_lora,
)


def fast(lora: LoraModel, batch: list[TokenRecord], max_tokens: int = 4096) -> tuple[float, list[torch.Tensor]]:
    with fused_lora(lora), attention_implementation(lora.base.model, PACKED_ATTENTION):
        loss = accumulate_gradients(lora, pack(examples(batch), max_tokens))
    return loss, gradients(lora)


def textbook(lora: LoraModel, batch: list[TokenRecord]) -> tuple[float, list[torch.Tensor]]:
    loss = reference_loss(lora, batch)
    loss.backward()
    return float(loss.detach()), gradients(lora)


@pytest.mark.parametrize("shared", [0, 17])
@pytest.mark.parametrize("lengths", [(40,), (40, 55, 33), (300, 140)])
def test_packed_is_padded(lengths: tuple[int, ...], shared: int) -> None:
    lora = tiny_lora()
    batch = records(lengths, shared=shared)
    (loss, found), (expected_loss, expected) = fast(lora, batch), textbook(lora, batch)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert_same(found, expected, 5e-6)


@pytest.mark.parametrize("config", [Qwen2Config(**SMALL), Qwen3Config(**SMALL, head_dim=8), MistralConfig(**SMALL)])
def test_packed_is_padded_in_other_families(config: PreTrainedConfig) -> None:
    lora = lora_on(config)
    batch = records((60, 45), shared=15)
    (loss, found), (expected_loss, expected) = fast(lora, batch), textbook(lora, batch)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert_same(found, expected, 5e-6)


def test_without_numba_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lora = tiny_lora()
    batch = records((300, 200), shared=20)
    _, kernel = fast(lora, batch)
    monkeypatch.setitem(sys.modules, "fedse.learning.attention_kernel", None)
    _, kept = fast(lora, batch)
    assert_same(kept, kernel, 5e-6)
    assert any(not torch.equal(one, other) for one, other in zip(kept, kernel, strict=True))  # computed in another way
    monkeypatch.setattr("fedse.learning.attention._KEPT_KEYS", 150)  # longer rows compute their probabilities again
    _, recomputed = fast(lora, batch)
    assert_same(recomputed, kept, 0.0)


def test_accumulation_is_a_large_batch() -> None:
    lora = tiny_lora()
    batch = records((40, 55, 33, 70), shared=10)
    (loss, found), (expected_loss, expected) = fast(lora, batch, max_tokens=64), fast(lora, batch)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert_same(found, expected, 1e-6)


def test_the_order_within_a_batch_does_not_matter() -> None:
    lora = tiny_lora()
    batch = records((40, 55, 33), shared=10)
    (loss, found), (expected_loss, expected) = fast(lora, batch[::-1]), fast(lora, batch)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert_same(found, expected, 1e-6)


def test_fused_layers_have_pefts_gradients_and_share_its_parameters() -> None:
    lora = tiny_lora()
    ids = torch.tensor([records((50,))[0].ids])

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = lora.base.model(ids).logits
        logits.logsumexp(-1).sum().backward()
        return logits.detach(), gradients(lora)

    expected_logits, expected = step()
    with fused_lora(lora):
        assert all(isinstance(lora.base.model.get_submodule(path), FusedLoraLinear) for path in lora.layers)
        logits, found = step()
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
    scale = max(float(tensor.abs().max()) for tensor in expected)
    assert_same([tensor / scale for tensor in found], [tensor / scale for tensor in expected], 5e-6)
    assert all(lora.base.model.get_submodule(path) is layer for path, layer in lora.layers.items())


def test_a_biased_layer_keeps_its_bias() -> None:
    lora = lora_on(Qwen2Config(**SMALL))
    biases = [lora.linear(path).bias for path in lora.layers if lora.linear(path).bias is not None]
    for bias in biases:
        bias.data.normal_(generator=torch.Generator().manual_seed(0))
    batch = records((30, 25))
    (_, found), (_, expected) = fast(lora, batch), textbook(lora, batch)
    assert biases
    assert_same(found, expected, 5e-6)


def test_bfloat16_gradients_point_where_float32_gradients_do() -> None:
    batch = records((60, 45), shared=15)
    _, exact = fast(tiny_lora(), batch)
    _, rounded = fast(tiny_lora(dtype="bfloat16"), batch)
    assert {tensor.dtype for tensor in rounded} == {torch.float32}
    one, other = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (rounded, exact))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.parametrize("attention", [_BlockwiseAttention, KernelAttention])
@pytest.mark.parametrize(("shared", "heads", "size"), [(30, (6, 2), 16), (64, (4, 4), 48), (0, (6, 1), 64)])
def test_attention_on_a_cpu_is_that_of_torch(attention: Any, shared: int, heads: tuple[int, int], size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    (batch,) = pack(examples(records((200, 90, 77), shared=shared)), 4096)
    layout = replace(batch.layout, filling=5)
    length = layout.ranges[-1][1]
    states = [(3 * torch.randn(1, n, length, size, generator=generator)).requires_grad_() for n in (*heads, heads[1])]
    weights = torch.randn(1, length, heads[0], size, generator=generator)
    found = attention.apply(*(one[0] for one in states), layout, 0.25)[None]
    expected = sdpa_by_segment(*states, layout, 0.25)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found, expected = (torch.autograd.grad((one * weights).sum(), states) for one in (found, expected))
    largest = [one.abs().max() for one in expected]
    assert_same(
        [one / by for one, by in zip(found, largest, strict=True)],
        [one / by for one, by in zip(expected, largest, strict=True)],
        2e-5,
    )


def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    (batch,) = pack(examples(records((200, 90), shared=30)), 4096)
    states = [torch.randn(3, batch.ids.shape[1], 32, requires_grad=True) for _ in range(3)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            attended = KernelAttention.apply(*states, batch.layout, 0.2)
            found.append([attended, *torch.autograd.grad(attended.square().sum(), states)])
    finally:
        torch.set_num_threads(before)
    assert_same(*found, 0.0)


def test_loss_depends_on_what_the_agent_wrote_and_not_on_what_it_only_read() -> None:
    """Predicting an observation token costs nothing: only its effect as context remains."""
    lora = tiny_lora()
    ids = tuple(range(20, 60))
    read_last = TokenRecord((*ids[:-1], 61), ((10, 20),), "t")
    loss, found = fast(lora, [TokenRecord(ids, ((10, 20),), "t")])
    same_loss, same = fast(lora, [read_last])
    assert loss == same_loss
    assert_same(found, same, 0.0)
    wrote_last = TokenRecord((*ids[:19], 61, *ids[20:]), ((10, 20),), "t")
    assert fast(lora, [wrote_last])[0] != loss


def test_small_heads_in_bfloat16_go_through_the_kernel_and_larger_ones_in_blocks() -> None:
    layout = pack(examples(records((90, 70), shared=10)), 4096)[0].layout
    for size, kernel in ((32, True), (64, False)):
        length = layout.ranges[-1][1]
        states = [torch.randn(4, length, size, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
        found = [one.bfloat16().requires_grad_() for one in states]
        with laid_out(layout):
            attended, _ = packed_attention(nn.Module(), *(one[None] for one in found), None)
        assert attended.dtype is torch.bfloat16
        assert (type(attended.grad_fn.next_functions[0][0]).__name__ == "KernelAttentionBackward") == kernel
        attended.float().square().sum().backward()
        exact = [one.detach().float().requires_grad_() for one in found]
        expected = sdpa_by_segment(*(one[None] for one in exact), layout, size**-0.5)
        torch.testing.assert_close(attended.float(), expected, rtol=2e-2, atol=2e-2)
        expected.square().sum().backward()
        for one, other in zip(found, exact, strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert float((one.grad.float() - other.grad).norm() / other.grad.norm()) < 2e-2
