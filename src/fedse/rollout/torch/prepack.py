"""Linear layers with weights packed once for oneDNN, for decoding on a CPU.

A plain linear layer lets oneDNN reorder the weights in every call, which at decoding's small batches costs as much as
the product itself: measured on two AVX512_BF16 cores with SmolLM2's shapes at batch 32, packing is 1.4 times as fast in
bfloat16 and 1.9 times in float32 (``make bench`` measures the player with it).  The operators are those that torch's
own compiler emits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from fedse.models.module_swap import swapped


class PrepackedLinear(nn.Module):
    """A frozen linear layer over packed weights; inference only."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self._bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The linear map of the layer it was made from."""
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return result


@contextmanager
def prepacked(model: PreTrainedModel, rows: int) -> Iterator[None]:
    """Inside the block the model's linear layers are packed where that is possible; elsewhere this does nothing.

    The packing is optimised for forward passes of so many rows, which are tokens.
    """
    if not _available(model):
        yield
        return
    linears = {path: module for path, module in model.named_modules() if type(module) is nn.Linear}
    with torch.inference_mode(), swapped(model, {path: PrepackedLinear(old, rows) for path, old in linears.items()}):
        yield


def _available(model: PreTrainedModel) -> bool:
    return (
        model.device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (model.dtype == torch.float32 or (model.dtype == torch.bfloat16 and _packs_bfloat16()))
    )


def _packs_bfloat16() -> bool:
    """Not on every processor; where it does not, packing raises."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())
