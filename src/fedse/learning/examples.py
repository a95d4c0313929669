"""What a local update learns from: token sequences, with a weight for every token of the agent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from fedse.errors import TrainingError
from fedse.types import TokenRecord, Trajectory


class Stream(StrEnum):
    """Where an example comes from; a batch may have a fixed share of each."""

    DEMONSTRATION = "demonstration"
    RECENT = "recent"
    EARLIER = "earlier"


class TokenLoss(NamedTuple):
    """Token ``at`` + 1 carries loss.

    Attributes:
        at: the position that predicts it.
        weight: factor on its loss; of an on-policy example its advantage.
        reference: its log-probability when it was drawn, in nats; NaN where the loss is the likelihood's.
    """

    at: int
    weight: float
    reference: float


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from.

    Attributes:
        tokens: the sequence, and where the agent's tokens lie.
        weights: factors on the losses of the agent's tokens, in their order; ``None``: all one.
        on_policy: the agent drew the tokens itself, and the weights are advantages: what is negative is to become less
            likely.  The loss is then the clipped policy gradient's (:mod:`fedse.learning.loss`), which needs the
            log-probabilities in ``tokens``.
        stream: where it comes from.

    Raises:
        TrainingError: if there is not one finite weight for each of the agent's tokens, if one is negative without
            ``on_policy``, or if there are no log-probabilities with it.
    """

    tokens: TokenRecord
    weights: tuple[float, ...] | None = None
    on_policy: bool = False
    stream: Stream = Stream.DEMONSTRATION

    def __post_init__(self) -> None:
        if self.on_policy and self.tokens.logprobs is None:
            raise TrainingError(
                "an episode that was played without log-probabilities cannot be learnt from on-policy",
                "let the model sample it (a player that records log-probabilities), or take training.objective=sft",
            )
        if self.weights is None:
            return
        if len(self.weights) != self.tokens.agent_tokens:
            raise TrainingError(
                f"an example has {len(self.weights)} weights for {self.tokens.agent_tokens} tokens of the agent",
                "give one weight for each token in the spans",
            )
        least = -math.inf if self.on_policy else 0
        if wrong := [weight for weight in self.weights if not (math.isfinite(weight) and weight >= least)]:
            raise TrainingError(f"an example has the weight {wrong[0]}", "give finite weights of 0 or more")

    @classmethod
    def of(
        cls,
        trajectory: Trajectory,
        weight: float = 1.0,
        *,
        turns: Sequence[float] | None = None,
        on_policy: bool = False,
        stream: Stream = Stream.DEMONSTRATION,
    ) -> Example:
        """An episode as an example.

        Args:
            trajectory: with a token record.
            weight: of all its tokens.
            turns: further factors, one for the tokens of each turn.
            on_policy: see :class:`Example`.
            stream: likewise.

        Raises:
            TrainingError: if the trajectory has no token record, or see :class:`Example`.
        """
        tokens = trajectory.tokens
        if tokens is None:
            raise TrainingError(
                f"the trajectory of {trajectory.task} carries no tokens",
                "render it first (fedse.agent.renderer_for(tokenizer).render)",
            )
        factors = [1.0] * len(tokens.spans) if turns is None else turns
        weights = tuple(
            weight * factor
            for factor, (start, end) in zip(factors, tokens.spans, strict=True)
            for _ in range(start, end)
        )
        return cls(tokens, None if set(weights) == {1.0} else weights, on_policy, stream)

    def losses(self) -> tuple[TokenLoss, ...]:
        """The tokens that carry loss.

        The first token of a chat is never predicted, and a token of weight 0 carries no loss.
        """
        positions = np.flatnonzero(self.tokens.mask()).tolist()
        weights = self.weights or (1.0,) * len(positions)
        references = self.tokens.logprobs if self.on_policy and self.tokens.logprobs else (math.nan,) * len(positions)
        found = zip(positions, weights, references, strict=True)
        return tuple(TokenLoss(at - 1, weight, reference) for at, weight, reference in found if at and weight)
