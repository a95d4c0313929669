"""The Wordle expert: keeps the possible words and guesses the one that tells most."""

from __future__ import annotations

from fedse.environments.voices import voices
from fedse.environments.wordle.vocabulary import PATTERNS, Vocabulary
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

#: A second-best guess counts as near-equal if it loses less than this share of the information.
_NEAR = 0.02
#: How often a near-equal guess is taken instead of the best one, after the opening.
_VARIETY = 0.1


# Short, because every token is sampled in each turn and trained on in each round.  The answer is repeated as it was
# written, which a small model can do, and followed at once by the words that fit, the guess first.
VOICES = voices(
    opening=("I open with {}.", "I start with {}."),
    answer=("{} gets {}.", "{} has {}."),
    one=("Only {} fits.", "{} is left."),
    two=("{} or {} fits.", "{} or {} is left."),
    several=("{} fits, or {}, or {} more.", "{} is left, or {}, or {} more."),
)


class WordleExpert:
    """Uses the feedback only.  It plays the possible word with the largest expected information.

    Ties go to the earlier word of the vocabulary.  After the opening it now and then takes a near-equal word, so that
    demonstrations differ while the tree of decisions stays small enough to be learnt.
    """

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        self._rng = python_random("wordle", "expert", seed)
        self._voice = self._rng.choice(VOICES)
        self._candidates = vocabulary.all
        self._guess: int | None = None

    def act(self, observation: str) -> tuple[str, str]:
        """See :class:`~fedse.environments.base.Expert`."""
        if self._guess is None:
            self._guess = self._vocabulary.ranked(self._candidates)[0][1]
            word = self._vocabulary.words[self._guess]
            return self._voice.opening.format(word), word
        feedback = observation.replace(" ", "").strip()
        if feedback not in PATTERNS:
            raise EnvironmentFault(f"the wordle expert expected feedback on its guess, found {observation!r}")
        answer = self._voice.answer.format(self._vocabulary.words[self._guess], " ".join(feedback))
        self._candidates = self._vocabulary.consistent(self._candidates, self._guess, PATTERNS.index(feedback))
        if not self._candidates:
            raise EnvironmentFault(f"no word of the vocabulary fits the feedback {observation!r}")
        self._guess = guess = self._choose()
        return f"{answer} {self._fitting(guess)}", self._vocabulary.words[guess]

    def _choose(self) -> int:
        ranking = self._vocabulary.ranked(self._candidates)
        near = len(ranking) > 1 and ranking[1][0] >= ranking[0][0] * (1 - _NEAR)
        return ranking[1 if near and self._rng.random() < _VARIETY else 0][1]

    def _fitting(self, guess: int) -> str:
        others = [candidate for candidate in self._candidates if candidate != guess]
        first, *rest = (self._vocabulary.words[candidate] for candidate in (guess, *others))
        if not rest:
            return self._voice.one.format(first)
        if len(rest) == 1:
            return self._voice.two.format(first, rest[0])
        return self._voice.several.format(first, rest[0], len(rest) - 1)
