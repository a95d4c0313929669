"""LoRA layers with a backward pass of their own: no gradient for frozen weights, no float32 copies of activations.

Follows from y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ (Hu et al., arXiv 2106.09685, eq. 3) by the chain rule, with g = ∂L/∂y:

    ∂L/∂x = g·W + s·(g·B)·A        ∂L/∂A = s·(g·B)ᵀ·x        ∂L/∂B = s·gᵀ·(x·Aᵀ)

All products are computed in the base's dtype; the adapter and its gradients stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from fedse.models.lora import LoraModel
from fedse.models.module_swap import swapped


class _LoraLinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        factor_a: torch.Tensor,
        factor_b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down = factor_a.to(x.dtype)  # (r, in)
        up = (factor_b * scaling).to(x.dtype)  # (out, r)
        hidden = rows @ down.t()  # (rows, r)
        y = functional.linear(rows, weight, bias)
        y.addmm_(hidden, up.t())
        ctx.save_for_backward(rows, hidden, weight, down, up)
        ctx.scaling = scaling  # type: ignore[attr-defined]
        ctx.shape = x.shape  # type: ignore[attr-defined]
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, hidden, weight, down, up = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_hidden = grad @ up
        grad_x = None
        if ctx.needs_input_grad[0]:  # not so in the first layer, whose input is the frozen embedding
            grad_x = (grad @ weight).addmm_(grad_hidden, down).view(ctx.shape)
        grad_a = (grad_hidden.t() @ rows).float()
        grad_b = (grad.t() @ hidden).float().mul_(ctx.scaling)
        return grad_x, None, None, grad_a, grad_b, None


class FusedLoraLinear(nn.Module):
    """A linear layer with a LoRA branch; shares its parameters with the adapted layer that it stands in for."""

    def __init__(self, linear: nn.Linear, factor_a: nn.Parameter, factor_b: nn.Parameter, scaling: float) -> None:
        super().__init__()
        self.linear = linear
        self.factor_a = factor_a
        self.factor_b = factor_b
        self.scaling = scaling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (…, in) to (…, out)."""
        y: torch.Tensor = _LoraLinearFunction.apply(  # type: ignore[no-untyped-call]
            x, self.linear.weight, self.linear.bias, self.factor_a, self.factor_b, self.scaling
        )
        return y


@contextmanager
def fused_lora(lora: LoraModel) -> Iterator[None]:
    """Inside the block the adapted layers of ``lora`` compute with :class:`FusedLoraLinear`.

    The parameters are the same objects, so gradients arrive where an optimizer over ``lora.trainable()`` looks.  With
    dropout the layers stay peft's own: dropout lies between x and A, and so changes the formulas above.
    """
    paths = lora.layers if lora.config.dropout == 0 else ()
    layers = {path: FusedLoraLinear(lora.linear(path), *lora.factors(path), lora.meta.scaling) for path in paths}
    with swapped(lora.base.model, layers):
        yield
