"""What a local update learns from: token sequences, with a weight for every token of the agent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedse.errors import TrainingError
from fedse.types import TokenRecord, Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from.

    Attributes:
        tokens: the sequence, and where the agent's tokens lie.
        weights: factors on the losses of the agent's tokens, in their order; ``None``: all one.

    Raises:
        TrainingError: if there is not one finite weight, 0 or more, for each of the agent's tokens.
    """

    tokens: TokenRecord
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if len(self.weights) != self.tokens.agent_tokens:
            raise TrainingError(
                f"an example has {len(self.weights)} weights for {self.tokens.agent_tokens} tokens of the agent",
                "give one weight for each token in the spans",
            )
        if wrong := [weight for weight in self.weights if not 0 <= weight < math.inf]:
            raise TrainingError(f"an example has the weight {wrong[0]}", "give finite weights of 0 or more")

    @classmethod
    def of(cls, trajectory: Trajectory, weight: float = 1.0) -> Example:
        """An episode as an example, all of whose tokens have one weight.

        Raises:
            TrainingError: if the trajectory has no token record, or the weight is negative or not finite.
        """
        tokens = trajectory.tokens
        if tokens is None:
            raise TrainingError(
                f"the trajectory of {trajectory.task} carries no tokens",
                "render it first (fedse.agent.renderer_for(tokenizer).render)",
            )
        return cls(tokens, None if weight == 1 else (weight,) * tokens.agent_tokens)

    def losses(self) -> tuple[tuple[int, float], ...]:
        """Pairs (t, weight): token t + 1 carries loss with that weight.

        The first token of a chat is never predicted, and a token of weight 0 carries no loss.
        """
        positions = np.flatnonzero(self.tokens.mask())
        weights = self.weights or (1.0,) * len(positions)
        pairs = zip(positions.tolist(), weights, strict=True)
        return tuple((position - 1, weight) for position, weight in pairs if position and weight)
