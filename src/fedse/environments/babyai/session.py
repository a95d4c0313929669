"""BabyAI behind AgentGym's server payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedse.environments.babyai.levels import LEVELS
from fedse.errors import EnvironmentFault

if TYPE_CHECKING:
    from fedse.environments.babyai.environment import BabyAI


class BabyAISession:
    """One slot of AgentGym's BabyAI server.

    Args:
        game: the environment to play on; the session owns it.
        slot: the slot's number, quoted in error messages.
        parity: add up rewards in ``score``, as the original does, instead of keeping the highest.
    """

    def __init__(self, game: BabyAI, slot: int, *, parity: bool) -> None:
        self._game = game
        self._slot = slot
        self._parity = parity
        self._score: float = 0
        self._done = False

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``; takes ``data_idx``, which stands for a level and a seed."""
        seed, level = divmod(kwargs["data_idx"], len(LEVELS))
        try:
            observation = self._game.open(LEVELS[level], seed)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._score, self._done = 0, False
        return {"observation": observation, "reward": 0, "score": 0, "deleted": False, "done": False}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``."""
        if self._done:
            return {"error": f"The task with environment {self._slot} has finished."}
        try:
            result = self._game.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._done = result.done
        # Where there is no reward the original sends the integer 0.
        reward = result.reward or 0
        self._score = self._score + reward if self._parity else max(self._score, reward)
        return {"observation": result.observation, "reward": reward, "score": self._score, "done": result.done}
