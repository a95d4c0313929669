"""The loss of the local update: negative log-likelihood of the agent's own tokens (Fed-SE, local fine-tuning).

Logits are computed where there is loss and nowhere else, some rows at a time: the full logits of a batch (tokens ×
vocabulary, in float32) would be the largest tensor of the whole update by far.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from transformers import PreTrainedModel

from fedse.learning.packing import MicroBatch
from fedse.models.plain import output_embedding

_LOGITS_AT_ONCE = 2**23  # float32 values, 32 MiB


class _NegativeLogLikelihood(torch.autograd.Function):
    """Sum over rows; the gradient of the hidden states is formed together with the loss, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        grad = torch.empty_like(hidden)
        total = hidden.new_zeros((), dtype=torch.float32)
        rows = max(1, _LOGITS_AT_ONCE // head.shape[0])
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            target = targets[part, None]
            logits = functional.linear(hidden[part], head, bias)
            log_probabilities = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            total -= (log_probabilities.gather(1, target) * weights[part, None]).sum()
            grad_logits = log_probabilities.exp_()  # ∂(−log p_target)/∂logits = p − onehot(target)
            grad_logits.scatter_add_(1, target, grad_logits.new_full(target.shape, -1.0))
            grad[part] = (grad_logits.to(hidden.dtype) @ head).mul_(weights[part, None])
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_total.to(grad.dtype), None, None, None, None


def negative_log_likelihood(
    hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, head: nn.Linear
) -> torch.Tensor:
    """Sum of −weight · log softmax(head(hidden))[target] over rows, a float32 scalar.

    ``hidden`` has shape (M, d) in the base's dtype; ``targets`` are token ids, shape (M,), and ``weights`` float32 of
    the same shape.  The frozen output embedding ``head`` gets no gradient.
    """
    total: torch.Tensor = _NegativeLogLikelihood.apply(hidden, targets, weights, head.weight, head.bias)  # type: ignore[no-untyped-call]
    return total


def agent_loss(model: PreTrainedModel, batch: MicroBatch) -> torch.Tensor:
    """Weighted sum of the negative log-likelihoods of the agent's tokens in the batch, a float32 scalar.

    The model must compute its attention with :data:`fedse.learning.attention.PACKED_ATTENTION`.
    """
    output = model.base_model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, layout=batch.layout)
    hidden = output.last_hidden_state[0].index_select(0, batch.loss_positions)
    return negative_log_likelihood(hidden, batch.targets, batch.weights, output_embedding(model))
