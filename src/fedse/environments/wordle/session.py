"""Wordle behind AgentGym's server payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedse.errors import EnvironmentFault

if TYPE_CHECKING:
    from fedse.environments.wordle.environment import Wordle

#: Recordings list the possible words up to this many.
_RECORDED_WORDS = 10


class WordleSession:
    """One slot of AgentGym's Wordle server.

    Args:
        game: the environment to play on; the session owns it.
        slot: the slot's number, given back at reset and quoted in error messages.
        parity: tell the still possible words at any time, as the original does, not only before the first guess.
    """

    def __init__(self, game: Wordle, slot: int, *, parity: bool) -> None:
        self._game = game
        self._slot = slot
        self._parity = parity
        self._fresh = True
        self._done = False

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /wordle/reset``; takes ``seed``."""
        observation = self._game.open(kwargs["seed"])
        self._fresh, self._done = True, False
        return {"id": self._slot, "observation": observation}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /wordle/step``."""
        if self._done:
            return self._finished()
        try:
            result = self._game.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._fresh, self._done = False, result.done
        # The original sends an integer after a valid guess and a float after an invalid one.
        reward = result.reward if result.observation == "invalid word" else int(result.reward)
        return {"observation": result.observation, "reward": reward, "done": result.done}

    def filtered_vocab(self) -> list[str] | dict[str, Any]:
        """Payload of ``GET /wordle/filtered_vocab``: the words that are still possible.

        The client asks once, before the first guess.  Later answers would give the game away, so they are an error
        except in parity.
        """
        if self._done:
            return self._finished()
        if not (self._fresh or self._parity):
            return {"error": "The possible words are told before the first guess only."}
        return self._game.possible_words

    def recorded_fields(self) -> dict[str, Any]:
        """What recordings note beside the payload of a step."""
        words = self._game.possible_words
        return {"n_filtered": len(words), "filtered": words if len(words) <= _RECORDED_WORDS else None}

    def _finished(self) -> dict[str, Any]:
        return {"error": f"The task with environment {self._slot} has finished."}
