"""Episode slots of an AgentGym server, with the payloads of the original, key for key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from fedse.environments.base import Environment, StepResult
from fedse.errors import EnvironmentFault

Played = TypeVar("Played", bound=Environment)


class Session(ABC):
    """One slot.  What goes wrong is an answer, too: ``{"error": text}``."""

    @abstractmethod
    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``."""

    @abstractmethod
    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``."""

    def recorded_fields(self) -> dict[str, Any]:
        """What recordings note beside the payload of the last step: field → value."""
        return {}

    def close(self) -> None:  # noqa: B027 (most sessions hold nothing)
        """Free what the session holds."""


class GameSession(Session, Generic[Played]):
    """A slot that plays on an environment of its own.

    Args:
        game: the environment; the session closes it.
        slot: the slot's number, quoted in payloads.
        parity: also reproduce what the original server gets wrong.
    """

    def __init__(self, game: Played, slot: int, *, parity: bool = False) -> None:
        self.game = game
        self.slot = slot
        self.parity = parity
        self.done = False

    def step(self, action: str) -> dict[str, Any]:
        """See :class:`Session`."""
        if self.done:
            return finished(self.slot)
        try:
            result = self.game.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self.done = result.done
        return self.answer(result)

    def answer(self, result: StepResult) -> dict[str, Any]:
        """The payload that tells the result of a step."""
        return {"observation": result.observation, "reward": result.reward, "done": result.done}

    def close(self) -> None:
        """See :class:`Session`."""
        self.game.close()


def finished(slot: int) -> dict[str, Any]:
    """The answer to whoever goes on after the end of an episode."""
    return {"error": f"The task with environment {slot} has finished."}
