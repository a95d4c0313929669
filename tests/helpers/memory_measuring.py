"""Measuring what the formulas of a plan say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AttentionInterface

from fedse.config import LoraConfig, ModelConfig
from fedse.learning import loss
from fedse.learning.attention import LAYOUT, PACKED_ATTENTION, sdpa_by_segment
from fedse.learning.examples import Example
from fedse.learning.loss import agent_loss
from fedse.learning.packing import pack
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import load_base
from fedse.models.fused_lora import fused_lora
from fedse.models.lora import LoraModel
from fedse.types import TokenRecord


def tiny_lora(dtype: Literal["float32", "bfloat16"], **lora: Any) -> LoraModel:
    return LoraModel(load_base(ModelConfig(name="tiny", device="cpu", dtype=dtype)), LoraConfig(**lora))


def record(tokens: int) -> TokenRecord:
    """A record whose forward pass takes ``tokens`` tokens; all of them predict a token of the agent."""
    return TokenRecord(tuple(5 + index % 200 for index in range(tokens + 1)), ((1, tokens + 1),), "t")


def alike(beginning: int, rest: int, count: int) -> list[TokenRecord]:
    """Records that begin with the same tokens, none of them the agent's, and go on in a forward pass with others."""
    shared = tuple(5 + index % 200 for index in range(beginning))
    own = [tuple(5 + (index + number) % 200 for index in range(rest + 1)) for number in range(count)]
    return [TokenRecord(shared + ids, ((beginning + 1, beginning + rest + 1),), "t") for ids in own]


def _fused_kernels(_: Any, query: Any, key: Any, value: Any, __: Any, **options: Any) -> tuple[torch.Tensor, None]:
    """The attention that the local update has on a GPU."""
    return sdpa_by_segment(query, key, value, LAYOUT.get(), options["scaling"]), None


AttentionInterface.register("test-fused-kernels", _fused_kernels)


def kept_for_backward(lora: LoraModel, records: Sequence[TokenRecord], *, on_gpu: bool) -> int:
    """Bytes that a forward pass of the local update keeps for its backward pass, beside the parameters."""
    [batch] = pack([Example(record) for record in records], sum(len(record.ids) for record in records))
    prefix, segments = batch.layout.prefix, batch.layout.segments
    # The triangle at the lower right, which a CPU writes out and a GPU's kernels know.
    masks = {(end - start, prefix + end - start) for start, end in segments} if on_gpu and prefix else set()
    model = lora.base.model
    owned = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned and tuple(tensor.shape) not in masks:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor, lest its address be used again
        return tensor

    for layer in lora.layers.values():
        layer.lora_dropout.train()
    attention = "test-fused-kernels" if on_gpu else PACKED_ATTENTION
    filled_up = patch.object(loss, "filled_up", lambda rows: rows) if on_gpu else nullcontext()  # a CPU's rows only
    with (
        filled_up,
        fused_lora(lora),
        attention_implementation(model, attention),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        agent_loss(model, batch)
    return sum(size for size, _ in kept.values())


def peak(work: Callable[[], object]) -> int:
    """The most bytes on the CPU that were allocated, and not yet freed, at any time while ``work`` ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest
