"""Word lists, and the feedback between any two words of a list, computed once.

Feedback is LMRL-Gym's: a letter is ``g`` in its place, ``y`` if the word holds it elsewhere, ``b`` if not at all.
Repeated letters are not counted (a second copy is ``y`` wherever the letter occurs anywhere).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from fedse.environments.parts import Part
from fedse.environments.sampling import spread
from fedse.errors import ConfigError, EnvironmentFault
from fedse.texts import read_text

LETTERS = 5
SIZES = (20, 40, 200, 555)
DEFAULT_SIZE = 40
#: Feedback patterns by number: base-3 digits, first letter first.
PATTERNS: tuple[str, ...] = tuple(
    "".join("byg"[number // 3**power % 3] for power in reversed(range(LETTERS))) for number in range(3**LETTERS)
)
SOLVED = PATTERNS.index("g" * LETTERS)

#: Words compared when the best opening of a long list is sought; more would take minutes and change little.
_SCORED = 600


class Vocabulary:
    """An ordered list of five-letter words.  Words are referred to by their index.

    Attributes:
        words: the list, in its own order, which decides how draws fall.
        index: word → index.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.index = {word: position for position, word in enumerate(self.words)}
        self.all = tuple(range(len(self.words)))
        # Over the longest list in use, 16,000 words, a row takes 16 kB and the groups of a guess 130 kB.
        self.row = functools.lru_cache(maxsize=8192)(self._row)
        self._groups_of = functools.lru_cache(maxsize=600)(self._groups)

    def _row(self, guess: int) -> bytes:
        """Feedback for ``guess`` against every word of the list, one pattern number per word."""
        word = self.words[guess]
        return bytes(pattern_of(word, target) for target in self.words)

    def _groups(self, guess: int) -> dict[int, tuple[int, ...]]:
        """Pattern → the words of the whole list that would give it for ``guess``, in list order."""
        groups: dict[int, list[int]] = {}
        for target, pattern in enumerate(self.row(guess)):
            groups.setdefault(pattern, []).append(target)
        return {pattern: tuple(targets) for pattern, targets in groups.items()}

    def consistent(self, candidates: tuple[int, ...], guess: int, pattern: int) -> tuple[int, ...]:
        """The candidates that would have given ``pattern`` for ``guess``, in list order."""
        if len(candidates) == len(self.words):
            return self._groups_of(guess).get(pattern, ())
        row = self.row(guess)
        return tuple([word for word in candidates if row[word] == pattern])

    def ranked(self, candidates: tuple[int, ...]) -> list[tuple[float, int]]:
        """(expected information in bits, word) of guessing each candidate, best first; ties in list order.

        Of more than 600 candidates, 600 at even distances are compared.
        """
        if len(candidates) == len(self.words):
            return self._opening
        return self._rank(candidates)

    @functools.cached_property
    def _opening(self) -> list[tuple[float, int]]:
        return self._rank(self.all)

    def _rank(self, candidates: tuple[int, ...]) -> list[tuple[float, int]]:
        scored = spread(candidates, _SCORED)
        total = len(scored)
        ranking = []
        for guess in scored:
            row = self.row(guess)
            counts = Counter([row[target] for target in scored]).values()
            # Rounded, so that equal partitions tie whatever the order of the summands.
            information = math.log2(total) - sum(count * math.log2(count) for count in counts) / total
            ranking.append((round(information, 9), guess))
        return sorted(ranking, key=lambda entry: (-entry[0], entry[1]))


def pattern_of(guess: str, target: str) -> int:
    """The number of the feedback that a guess gets where another word is the target."""
    number = 0
    for letter, other in zip(guess, target, strict=True):
        number = 3 * number + (2 if letter == other else letter in target)
    return number


@functools.cache
def common_words(size: int) -> Vocabulary:
    """Common English words, out of the 555 five-letter ones of BIP-39's list (PyPI ``mnemonic``, MIT).

    ``size`` 555 is all of them in alphabetical order, 200 and 20 take them at even distances, and 40 is every
    thirteenth.

    Raises:
        ConfigError: for another size.
        EnvironmentFault: if the installed package does not hold that list.
    """
    if size not in SIZES:
        raise ConfigError(f"wordle has no vocabulary of size {size!r}", f"take one of {', '.join(map(str, SIZES))}")
    listing = resources.files("mnemonic").joinpath("wordlist", "english.txt").read_text(encoding="utf-8")
    words = sorted(word for word in listing.split() if len(word) == LETTERS)
    if len(words) != SIZES[-1]:
        raise EnvironmentFault(
            f"wordle: the package mnemonic holds {len(words)} five-letter words, {SIZES[-1]} were expected",
            "install an unmodified mnemonic>=0.21",
        )
    if size == DEFAULT_SIZE:
        return Vocabulary(words[::13][:size])
    return Vocabulary([words[position] for position in spread(range(len(words)), size)])


@functools.lru_cache(maxsize=64)
def part_of(vocabulary: Vocabulary, part: Part) -> Vocabulary:
    """A part of the words, in their order.

    Raises:
        ConfigError: if no word is left.
    """
    words = part.choose(vocabulary.words, "wordle")
    if not words:
        raise ConfigError(
            f"wordle: {len(vocabulary.words)} words are too few for {part.of} parts", "take more words or fewer parts"
        )
    return Vocabulary(words)


def read_words(path: Path) -> Vocabulary:
    """A vocabulary from a text file with one word a line; lines of other lengths are passed over, order is kept.

    Raises:
        ConfigError: if the file cannot be read, holds no word, or holds one twice or with other characters than a-z.
    """
    try:
        modified = path.stat().st_mtime_ns
        return _read_words(path.resolve(), modified)
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"wordle: the vocabulary {path} cannot be read: {cause}", "give a UTF-8 text file") from cause


@functools.lru_cache(maxsize=8)
def _read_words(path: Path, _modified: int) -> Vocabulary:
    words: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = line.strip()
        if len(word) != LETTERS:
            continue
        if not (word.isascii() and word.isalpha() and word.islower()):
            raise ConfigError(f"wordle: {path}, line {number}: {word!r} is not written in a-z", "lower-case or drop it")
        if word in words:
            raise ConfigError(
                f"wordle: {path}, line {number}: {word!r} stands in line {words[word]} already", "drop one"
            )
        words[word] = number
    if not words:
        raise ConfigError(f"wordle: {path} holds no word of {LETTERS} letters", "put one word on each line")
    return Vocabulary(list(words))
