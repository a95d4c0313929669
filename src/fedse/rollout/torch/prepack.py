"""Linear layers with weights packed once for oneDNN, for decoding on a CPU: as the model has them, or as int8.

A plain linear layer lets oneDNN reorder the weights in every call, which at decoding's small batches costs as much as
the product itself: measured on two AVX512_BF16 cores with SmolLM2's shapes at batch 32, packing is 1.4 times as fast in
bfloat16 and 1.9 times in float32 (``make bench`` measures the player with it).  The operators are those that torch's
own compiler emits.

int8 weights are for processors that multiply int8 faster than what the model has: W ≈ diag(u)·Q with whole numbers up
to 127, one factor u for each output.  A row of inputs is rounded in the same way by a factor of its own, so that it
does not depend on other rows, and their products are summed exactly (vector-wise quantization of LLM.int8, arXiv
2208.07339).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from fedse.errors import ConfigError
from fedse.models.base import cpu_flags
from fedse.models.module_swap import swapped

#: The largest whole number of a weight.
_MOST = 127


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


class Int8Linear(nn.Module):
    """A frozen linear layer with int8 weights; inference only."""

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self._factors = _factors(weight, _MOST).squeeze(1)
        self._zeros = torch.zeros_like(self._factors, dtype=torch.int32)
        whole = torch.round(weight / self._factors.unsqueeze(1)).to(torch.int8)
        # Without instructions for it (VNNI) products of weights and bytes are added in pairs to 16 bits, which bytes up
        # to 255 would overflow.
        self._most = _MOST if cpu_flags() & {"avx512_vnni", "avx_vnni"} else _MOST // 2
        self._zero = self._most + 1  # the byte that stands for 0, since those of inputs have no sign
        self._weight = torch.ops.onednn.qlinear_prepack(whole, [rows, weight.shape[1]])
        self._bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """About the linear map of the layer it was made from."""
        rows = states.reshape(-1, states.shape[-1]).float()
        factors = _factors(rows, self._most)
        whole = torch.round(rows / factors).add_(self._zero).to(torch.uint8)  # the products that processors have
        result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            whole,
            1.0,
            self._zero,
            self._weight,
            self._factors,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        ).mul_(factors)
        if self._bias is not None:
            result += self._bias
        return result.to(states.dtype).view(*states.shape[:-1], -1)


def _factors(rows: torch.Tensor, most: int) -> torch.Tensor:
    """What 1 stands for in each row, so that its largest number becomes ``most``; shape (rows, 1)."""
    return rows.abs().amax(dim=1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny * most) / most


@contextmanager
def prepacked(model: PreTrainedModel, rows: int, weights: Literal["model", "int8"] = "model") -> Iterator[None]:
    """Inside the block the model's linear layers are packed where that is possible; elsewhere they stay as they are.

    Args:
        model: whose layers.
        rows: tokens of a forward pass that the packing is optimised for.
        weights: as the model has them, or "int8" where :func:`check_int8` lets that pass; the output embedding stays as
            the model has it.
    """
    linears = {path: module for path, module in model.named_modules() if type(module) is nn.Linear}
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    packs = _available(model)
    with torch.inference_mode():
        packed: dict[str, nn.Module] = {}
        for path, linear in linears.items():
            if weights == "int8" and linear is not head:
                packed[path] = Int8Linear(linear, rows)
            elif packs:
                packed[path] = PrepackedLinear(linear, rows)
        with swapped(model, packed):
            yield


def check_int8(device: torch.device) -> None:
    """Make sure that layers can have int8 weights; a ``ConfigError`` if not."""
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_prepack")  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not has:
        where = "on a CPU" if has else "with a torch that has oneDNN's quantized layers"
        raise ConfigError(f"int8 weights can be had {where} only", "set rollout.weights to model")


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
