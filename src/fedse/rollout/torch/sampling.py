"""Drawing tokens: greedy, or by temperature with a random stream per episode.

``torch.multinomial`` over a large vocabulary takes longer than the forward pass on a CPU; inverse-transform sampling
with one uniform number per row is ten times as fast, and lets every episode own its numbers.
"""

from __future__ import annotations

import numpy as np
import torch


def draw(logits: torch.Tensor, uniforms: np.ndarray | None, temperature: float, min_p: float = 0.0) -> list[int]:
    """One token per row.

    Args:
        logits: shape (rows, vocabulary).
        uniforms: numbers in [0, 1), shape (rows,); ``None`` takes the most likely token.
        temperature: divides the logits; without effect on greedy choice.
        min_p: tokens whose probability is below this share of the most likely token's are never drawn (min-p sampling,
            arXiv 2407.01082); 0 draws from all.

    Returns:
        Token ids, one per row.
    """
    if uniforms is None:
        return [int(token) for token in logits.argmax(dim=-1).tolist()]
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if min_p > 0:
        least = min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    # The sum may end a little below or above one; scaling by it keeps every draw inside the distribution.  Rounding
    # to float32 must not make a one of a number just below it, which would point past the last token.
    below_one = np.minimum(uniforms, 1.0 - 2.0**-24).astype(np.float32)
    targets = torch.from_numpy(below_one).to(logits.device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(1)
    return [int(token) for token in tokens.clamp_(max=logits.shape[-1] - 1).tolist()]
