"""What can be told of a turn in Wordle, and of what can be done after it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedse.environments.review import Review, Seen
from fedse.environments.wordle.vocabulary import LETTERS, PATTERNS, pattern_of

_ANSWER = re.compile(r"\b([a-z]{5}) (?:gets|has) ((?:[bgy] ?){5})", re.IGNORECASE)
_FITS = re.compile(r"\b(?:only )?([a-z]{5})(?: or ([a-z]{5}))? (?:fits|is left)", re.IGNORECASE)


def review(turns: Sequence[Seen]) -> list[Review]:
    """See :meth:`fedse.environments.base.Environment.review`; a word that was guessed before tells nothing."""
    known: dict[str, str] = {}
    reviews = []
    for turn in turns:
        word = _plain(turn.action)
        answer = _plain(turn.answer)[:LETTERS]
        told = answer in PATTERNS
        reviews.append(Review((told and word not in known) or not turn.answer, _truthful(turn.thought, known)))
        if told and len(word) == LETTERS:
            known[word] = answer
    return reviews


def offers(turns: Sequence[Seen], words: Sequence[str]) -> list[str]:
    """The words that were not guessed yet; see :meth:`fedse.environments.base.Environment.offers`."""
    guessed = {_plain(turn.action) for turn in turns}
    return [word for word in words if word not in guessed]


def _truthful(thought: str, known: dict[str, str]) -> bool:
    answers = all(known.get(word.lower()) == _plain(answer) for word, answer in _ANSWER.findall(thought))
    fitting = [word.lower() for pair in _FITS.findall(thought) for word in pair if word]
    return answers and all(
        PATTERNS[pattern_of(guess, word)] == answer for word in fitting for guess, answer in known.items()
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())
