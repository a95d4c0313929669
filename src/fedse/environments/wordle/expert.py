"""The Wordle expert: keeps the possible words and guesses the one that tells most."""

from __future__ import annotations

from dataclasses import dataclass

from fedse.environments.wordle.vocabulary import LETTERS, PATTERNS, Vocabulary
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

#: A second-best guess counts as near-equal if it loses less than this share of the information.
_NEAR = 0.02
#: How often a near-equal guess is taken instead of the best one, after the opening.
_VARIETY = 0.1


@dataclass(frozen=True, slots=True)
class _Phrases:
    """One way of speaking, kept through a game."""

    opening: str
    known: str
    one: str
    two: str
    several: str
    decide: str


_VOICES = (
    _Phrases(
        opening="Nothing is known yet. I open with {}.",
        known="Fixed: {}. Elsewhere: {}. Absent: {}.",
        one="Only {} fits.",
        two="Two words fit: {} and {}.",
        several="{} words fit, such as {} and {}.",
        decide="I guess {}.",
    ),
    _Phrases(
        opening="I know no letters yet. I start with {}.",
        known="In place: {}. Misplaced: {}. Not in the word: {}.",
        one="The one word left is {}.",
        two="Two words are left: {} and {}.",
        several="{} words are left, such as {} and {}.",
        decide="I try {}.",
    ),
)


class WordleExpert:
    """Uses the feedback only.  It plays the possible word with the largest expected information.

    Ties go to the earlier word of the vocabulary.  After the opening it now and then takes a near-equal word, so that
    demonstrations differ while the tree of decisions stays small enough to be learnt.
    """

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        self._rng = python_random("wordle", "expert", seed)
        self._voice = self._rng.choice(_VOICES)
        self._candidates = vocabulary.all
        self._guess: int | None = None
        self._fixed = ["_"] * LETTERS

    def act(self, observation: str) -> tuple[str, str]:
        """The next (thought, action).

        Raises:
            EnvironmentFault: if the observation is no feedback, or contradicts what came before.
        """
        if self._guess is None:
            self._guess = self._vocabulary.ranked(self._candidates)[0][1]
            word = self._vocabulary.words[self._guess]
            return self._voice.opening.format(word), word
        feedback = observation.replace(" ", "").strip()
        if feedback not in PATTERNS:
            raise EnvironmentFault(f"the wordle expert expected feedback on its guess, found {observation!r}")
        known = self._read(self._vocabulary.words[self._guess], feedback)
        self._candidates = self._vocabulary.consistent(self._candidates, self._guess, PATTERNS.index(feedback))
        if not self._candidates:
            raise EnvironmentFault(f"no word of the vocabulary fits the feedback {observation!r}")
        self._guess = self._choose()
        word = self._vocabulary.words[self._guess]
        return f"{known} {self._remaining()} {self._voice.decide.format(word)}", word

    def _choose(self) -> int:
        ranking = self._vocabulary.ranked(self._candidates)
        near = len(ranking) > 1 and ranking[1][0] >= ranking[0][0] * (1 - _NEAR)
        return ranking[1 if near and self._rng.random() < _VARIETY else 0][1]

    def _read(self, word: str, feedback: str) -> str:
        """What the last feedback says: all fixed letters so far, and this guess's misplaced and absent letters."""
        for position, (letter, mark) in enumerate(zip(word, feedback, strict=True)):
            if mark == "g":
                self._fixed[position] = letter
        misplaced, absent = (
            " ".join(dict.fromkeys(letter for letter, mark in zip(word, feedback, strict=True) if mark == wanted))
            for wanted in "yb"
        )
        return self._voice.known.format(" ".join(self._fixed), misplaced or "none", absent or "none")

    def _remaining(self) -> str:
        words = [self._vocabulary.words[candidate] for candidate in self._candidates]
        if len(words) == 1:
            return self._voice.one.format(words[0])
        if len(words) == 2:
            return self._voice.two.format(*words)
        return self._voice.several.format(len(words), words[0], words[1])
