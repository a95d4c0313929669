"""LMRL-Gym's Wordle: the secret is drawn anew, among the words still possible, at every valid guess."""

from __future__ import annotations

import random
from typing import Literal

from fedse.environments.wordle.vocabulary import SOLVED, Vocabulary

Mode = Literal["lmrl", "fixed"]
TRIES = 6


class Engine:
    """One game.

    The original keeps, per letter, what is known about each position and derives feedback and possible words from
    that.  Its knowledge after a guess always comes to "the words that give this feedback for this guess", so candidates
    are filtered by feedback patterns here; the results are the same.

    Args:
        vocabulary: the words.
        mode: ``lmrl`` draws the secret anew at each valid guess, ``fixed`` draws it once.
        seed: of the draws; Python's ``random.Random``, as in the original.
    """

    __slots__ = ("_fixed", "_rng", "_vocabulary", "candidates", "done", "tries", "won")

    def __init__(self, vocabulary: Vocabulary, mode: Mode, seed: int) -> None:
        self._vocabulary = vocabulary
        self._rng = random.Random(seed)
        self.candidates = vocabulary.all
        self._fixed = self._rng.choice(vocabulary.all) if mode == "fixed" else None
        self.tries = 0
        self.done = False
        self.won = False

    def guess(self, word: str) -> int | None:
        """Use up one try; the feedback pattern, or ``None`` for a word that is not in the vocabulary."""
        self.tries += 1
        index = self._vocabulary.index.get(word)
        pattern = None
        if index is not None:
            target = self._rng.choice(self.candidates) if self._fixed is None else self._fixed
            pattern = self._vocabulary.row(index)[target]
            self.candidates = self._vocabulary.consistent(self.candidates, index, pattern)
            # The original asks for one possible word left that has been guessed: any other guessed word has had
            # feedback that rules it out, so this is the word just guessed.
            self.won = pattern == SOLVED
        self.done = self.won or self.tries >= TRIES
        return pattern
