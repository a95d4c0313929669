"""Spelling that leaves no doubt: what an agent means by an action that is not written exactly as the rules have it.

Case, quotes, brackets, underscores, spaces, articles and punctuation at the ends are trifles.  Words are not: another
word, a missing one or one too many may be another intention, and nothing here guesses.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable

_MARKS = re.compile(r"[\"'`*“”‘’«»<>\[\](){}]")
#: From the first letter or digit to the last; a sign belongs to its number.
_CORE = re.compile(r"(?:-(?=\d))?\w(?:.*\w)?")
_SHOWN = 60


def plain(text: str) -> str:
    """A text without trifles: in lower case, its words separated by single spaces."""
    core = _CORE.search(" ".join(_MARKS.sub("", text).replace("_", " ").lower().split()))
    words = core[0].split(" ") if core else []
    pairs = itertools.pairwise([*words, ""])
    return " ".join(word for word, follower in pairs if not _is_article(word, follower))


def meant(said: str, known: Iterable[str]) -> str | None:
    """The one of the known texts that ``said`` spells, exactly or but for trifles; ``None`` if none or several do."""
    texts = tuple(known)
    if said in texts:
        return said
    wanted = plain(said)
    found = [text for text in texts if wanted and _plain_known(text) == wanted]
    return found[0] if len(found) == 1 else None


def shown(said: str) -> str:
    """What was said, for an answer: in quotes, on one line, and not too long."""
    text = " ".join(said.split())
    return f'"{text[:_SHOWN]}..."' if len(text) > _SHOWN else f'"{text}"'


def _is_article(word: str, follower: str) -> bool:
    # Single letters may be spelled out, as in "a b o u t", and an article is never the last word.
    return (word in ("the", "an") and follower != "") or (word == "a" and len(follower) > 1)


#: What is known comes again and again, what is said need not.
_plain_known = functools.lru_cache(maxsize=4096)(plain)
