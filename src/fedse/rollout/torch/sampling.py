"""Drawing tokens: greedy, or by temperature with a random stream per episode.

``torch.multinomial`` over a large vocabulary takes longer than the forward pass on a CPU; inverse-transform sampling
with one uniform number per row is ten times as fast, and lets every episode own its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedse.rollout.schedule import Draw


def draw(logits: torch.Tensor, draws: Sequence[Draw], min_p: float = 0.0) -> list[tuple[int, float]]:
    """One token per row, each with its log-probability; see :meth:`fedse.rollout.schedule.Decoder.decode`.

    Args:
        logits: of each draw, in order, shape (draws, vocabulary).
        draws: how to draw each; without effect on a greedy choice is the temperature.
        min_p: tokens whose probability is below this share of the most likely token's are never drawn (min-p sampling,
            arXiv 2407.01082); 0 draws from all.
    """
    if not draws:
        return []
    temperatures = torch.tensor([[one.temperature] for one in draws], device=logits.device)
    shares = torch.softmax(logits.float() / temperatures, dim=-1)
    uniforms = [one.uniform for one in draws if one.uniform is not None]
    # Whole vocabularies are long: what no row asks for is not computed, and what all ask for is not copied.
    if len(uniforms) == len(draws):
        tokens = _inverse(shares, uniforms, min_p)
    else:
        tokens = logits.argmax(dim=-1)
        if uniforms:
            sampled = [index for index, one in enumerate(draws) if one.uniform is not None]
            tokens[sampled] = _inverse(shares[sampled], uniforms, min_p)
    logprobs = shares.gather(1, tokens.unsqueeze(1)).squeeze(1).log()
    return list(zip(tokens.tolist(), logprobs.tolist(), strict=True))


def _inverse(shares: torch.Tensor, uniforms: Sequence[float], min_p: float) -> torch.Tensor:
    """Inverse-transform sampling of one token per row, shape (rows,)."""
    if min_p > 0:
        least = min_p * shares.amax(dim=-1, keepdim=True)
        shares = shares.masked_fill(shares < least, 0.0)
    cumulative = shares.cumsum(dim=-1)
    # The sum may end a little below or above one; scaling by it keeps every draw inside the distribution.  Rounding
    # to float32 must not make a one of a number just below it, which would point past the last token.
    below_one = np.minimum(uniforms, 1.0 - 2.0**-24).astype(np.float32)
    targets = torch.from_numpy(below_one).to(shares.device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(1)
    return tokens.clamp_(max=shares.shape[-1] - 1)
