"""The loss of the local update on the agent's own tokens.

* The negative log-likelihood, −w · log π (Fed-SE, local fine-tuning).
* Of tokens that the agent drew itself, with an advantage A that may be negative, the clipped policy gradient's
  −min(ρ·A, clip(ρ, 1 − ε, 1 + ε)·A), ρ = π / μ (PPO, arXiv 1707.06347; for groups of attempts GRPO, arXiv 2402.03300).
  μ is the probability with which the token was drawn, and π is taken at the same temperature.

Logits are computed where there is loss and nowhere else, some rows at a time: the full logits of a batch (tokens ×
vocabulary, in float32) would be the largest tensor of the whole update by far.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from transformers import PreTrainedModel

from fedse.learning.attention import PACKED_ATTENTION, laid_out
from fedse.learning.examples import Example
from fedse.learning.packing import MicroBatch, pack
from fedse.models.agreement import COMPARED, check_agreement
from fedse.models.attention_switch import attention_implementation
from fedse.models.plain import output_embedding, scaled
from fedse.models.rows import filled_up
from fedse.types import TokenRecord

_LOGITS_AT_ONCE = 2**23  # float32 values, 32 MiB


class _AgentLoss(torch.autograd.Function):
    """Sum over rows; the gradient of the hidden states is formed together with the loss, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden: torch.Tensor,
        batch: MicroBatch,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        clip: float,
    ) -> torch.Tensor:
        grad = torch.empty_like(hidden)
        total = hidden.new_zeros((), dtype=torch.float32)
        drawn = bool((batch.temperatures != 1).any())
        rows = max(1, _LOGITS_AT_ONCE // head.shape[0])
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            target, temperature = batch.targets[part, None], batch.temperatures[part, None]
            logits = functional.linear(hidden[part], head, bias)
            if drawn:
                logits = logits.float() / temperature
            log_probabilities = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            loss, slope = _token_losses(
                log_probabilities.gather(1, target), batch.weights[part, None], batch.references[part, None], clip
            )
            total += loss.sum()
            grad_logits = log_probabilities.exp_()  # ∂(−log p_target)/∂logits = p − onehot(target)
            grad_logits.scatter_add_(1, target, grad_logits.new_full(target.shape, -1.0))
            grad[part] = (grad_logits.to(hidden.dtype) @ head).mul_(slope / temperature)
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_total.to(grad.dtype), None, None, None, None


def _token_losses(
    logprobs: torch.Tensor, weights: torch.Tensor, references: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of tokens and their slopes −∂loss/∂log π; all of one shape."""
    on_policy = ~references.isnan()
    if not on_policy.any():
        return -logprobs * weights, weights
    ratio = torch.where(on_policy, logprobs - references, 0.0).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    # Where the bound is the smaller of the two the loss does not depend on π.
    free = ratio * weights <= bounded * weights
    surrogate = torch.where(free, ratio, bounded) * weights
    loss = torch.where(on_policy, -surrogate, -logprobs * weights)
    return loss, torch.where(on_policy, torch.where(free, ratio, 0.0) * weights, weights)


def token_loss(hidden: torch.Tensor, batch: MicroBatch, head: nn.Linear, clip: float) -> torch.Tensor:
    """Sum of the losses of the batch's tokens, a float32 scalar.

    Args:
        hidden: of the positions that predict, shape (M, d), in the base's dtype.
        batch: with M losses.
        head: the frozen output embedding; it gets no gradient.
        clip: ε of the clipped policy gradient.
    """
    total: torch.Tensor = _AgentLoss.apply(hidden, batch, head.weight, head.bias, clip)  # type: ignore[no-untyped-call]
    return total


def agent_loss(model: PreTrainedModel, batch: MicroBatch, clip: float = 0.2) -> torch.Tensor:
    """Sum of the losses of the agent's tokens in the batch, a float32 scalar; ``clip`` as of :func:`token_loss`.

    The model must compute its attention with :data:`fedse.learning.attention.PACKED_ATTENTION`.
    """
    return token_loss(_predicting(model, batch), batch, output_embedding(model), clip)


def check_packing(model: PreTrainedModel) -> None:
    """Make sure that a packed row gives what the model gives; see :func:`fedse.models.agreement.check_agreement`."""

    def packed(texts: torch.Tensor, shared: int) -> torch.Tensor:
        records = [TokenRecord(tuple(ids), ((shared, len(ids)),), "") for ids in texts.tolist()]
        [batch] = pack([Example(record) for record in records], texts.numel())
        with attention_implementation(model, PACKED_ATTENTION):
            hidden = _predicting(model, batch.to(model.device))
        logits: torch.Tensor = output_embedding(model)(hidden.view(len(texts), -1, hidden.shape[-1])[:, -COMPARED:])
        return logits

    check_agreement(model, "the local update", packed)


def _predicting(model: PreTrainedModel, batch: MicroBatch) -> torch.Tensor:
    """What the output embedding takes for the tokens whose successor carries loss, shape (M, d)."""
    decoder = model.get_decoder()  # type: ignore[no-untyped-call]
    length = batch.ids.shape[1]
    filling = filled_up(length) - length if batch.ids.device.type == "cpu" else 0
    ids, positions = (functional.pad(row, (0, filling)) for row in (batch.ids, batch.positions))
    with laid_out(replace(batch.layout, filling=filling)):
        output = decoder(input_ids=ids, position_ids=positions, use_cache=False)
    return scaled(model, output.last_hidden_state[0].index_select(0, batch.loss_positions))
