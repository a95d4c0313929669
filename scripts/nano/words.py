"""Words to fill tasks with: those of the environments' pages, out of context, and invented ones."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

_ONSETS = ("b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "r", "s")
_ONSETS += ("sk", "st", "t", "th", "tr", "v", "w", "y", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "oo")
_CODAS = ("", "", "", "b", "d", "g", "l", "ll", "m", "n", "nd", "p", "r", "s", "st", "t", "x")


class Lexicon:
    """Draws words, names and phrases.

    Args:
        known: words to draw from beside invented ones.
        rng: where chance comes from.
    """

    def __init__(self, known: Sequence[str], rng: random.Random) -> None:
        self._known = known
        self.rng = rng

    def invented(self) -> str:
        """A word that means nothing, of one to three syllables."""
        syllable = (self.rng.choice(_ONSETS) + self.rng.choice(_VOWELS) for _ in range(self.rng.randint(1, 3)))
        return "".join(syllable) + self.rng.choice(_CODAS)

    def word(self) -> str:
        """A known or an invented word."""
        return self.rng.choice(self._known) if self.rng.random() < 0.7 else self.invented()

    def name(self) -> str:
        """One to three words."""
        return " ".join(self.word() for _ in range(self.rng.choices((1, 2, 3), (3, 5, 2))[0]))

    def names(self, count: int, *, alike: bool | None = None) -> list[str]:
        """Different names; alike, they share words, so that only the whole name tells them apart."""
        draw = self.name
        if self.rng.random() < 0.4 if alike is None else alike:
            # Twice as many pairs as names, whatever the words are, so that drawing comes to an end.
            firsts, lasts = self._words(count // 2 + 2), self._words(count // 2 + 2)

            def draw() -> str:
                return f"{self.rng.choice(firsts)} {self.rng.choice(lasts)}"

        found: dict[str, None] = {}
        while len(found) < count:
            found[draw()] = None
        return list(found)

    def _words(self, count: int) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < count:
            found[self.word()] = None
        return list(found)

    def code(self) -> str:
        """Letters and digits in no order, such as numbers of articles."""
        return "".join(self.rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=self.rng.randint(3, 6)))


def words_of(texts: Iterable[str]) -> list[str]:
    """The different lower-case words of texts, sorted."""
    return sorted({word for text in texts for word in re.findall(r"\b[a-z][a-z'-]*[a-z]\b", text)})
