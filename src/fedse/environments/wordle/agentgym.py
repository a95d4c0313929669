"""Wordle in AgentGym: tasks are seeds, and the server tells its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedse.environments.agentgym.counterpart import Counterpart, GameSession, Session, finished
from fedse.environments.base import StepResult
from fedse.environments.wordle.environment import INVALID, SPLITS, Wordle
from fedse.environments.wordle.vocabulary import LETTERS
from fedse.errors import ConfigError, EnvironmentFault
from fedse.types import Task

#: Recordings list the possible words up to this many.
_RECORDED_WORDS = 10


class WordleSession(GameSession[Wordle]):
    """One slot of AgentGym's Wordle server; in parity it tells the possible words also in the middle of a game."""

    _fresh = True

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /wordle/reset``; takes ``seed``."""
        observation = self.game.open(kwargs["seed"])
        self._fresh, self.done = True, False
        return {"id": self.slot, "observation": observation}

    def answer(self, result: StepResult) -> dict[str, Any]:
        """The original sends an integer after a valid guess and a float after an invalid one."""
        self._fresh = False
        valid = not result.observation.startswith(INVALID)
        return super().answer(result) | ({"reward": int(result.reward)} if valid else {})

    def filtered_vocab(self) -> list[str] | dict[str, Any]:
        """Payload of ``GET /wordle/filtered_vocab``: the words that are still possible.

        The client asks once, before the first guess.  Later answers would give the game away, so they are an error
        except in parity.
        """
        if self.done:
            return finished(self.slot)
        if not (self._fresh or self.parity):
            return {"error": "The possible words are told before the first guess only."}
        return self.game.possible_words

    def recorded_fields(self) -> dict[str, Any]:
        """How many words are possible, and which if they are few."""
        words = self.game.possible_words
        return {"n_filtered": len(words), "filtered": words if len(words) <= _RECORDED_WORDS else None}


class WordleCounterpart(Counterpart[Wordle]):
    """Numbers are seeds, as they are here."""

    session_class = WordleSession

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        return {split: {seed: self.task_of(seed) for seed in seeds} for split, seeds in SPLITS.items()}

    def match(self, ask: Callable[[str], Any]) -> None:
        """Take the server's words for one's own, since agents are told all of them."""
        words = ask("filtered_vocab")
        if not (
            isinstance(words, list) and words and all(isinstance(word, str) and len(word) == LETTERS for word in words)
        ):
            raise EnvironmentFault(f"wordle: the server's words are no list of words: {str(words)[:80]}")
        self.environment.use_words(words)

    def recorded_session(self, record: Mapping[str, Any]) -> Session:
        """The field ``vocab`` (``bip39_40``, …) gives the words; recordings were made with the original's faults."""
        size = str(record["vocab"]).removeprefix("bip39_")
        if not size.isdigit():
            raise ConfigError(
                f"a wordle recording names the vocabulary {record['vocab']!r}", "known: bip39_40, bip39_555"
            )
        return WordleSession(Wordle(size=int(size), parity=True), 0, parity=True)
