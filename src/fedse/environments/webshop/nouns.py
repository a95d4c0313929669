"""The nouns of a product's name, by which the reward compares kinds of products.

The original tags names with a large spaCy model.  Product names are title case, so that nearly every word of them is
tagged as a (proper) noun; the default extractor here takes every word that is not known to be something else.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable

from fedse.errors import ConfigError

#: A text → its nouns in lower case, in order, repeats included.
NounExtractor = Callable[[str], tuple[str, ...]]

LEXICON = "lexicon"

_WORD = re.compile(r"[^\W\d_]+")
_POSSESSIVE = re.compile(r"['’]s\b")

_FUNCTION_WORDS = """
    a about above all also an and any are as at be before below between both but by can each either every for from has
    have if in into is it its just like more most my near no nor not of off on one only onto or other our out over own
    per she so some such than that the their them then these they this those through to too under until up upon very
    via was we were what when where which while who will with within without you your
"""
# Only adjectives that stay such in title case; most others are tagged as part of a name there.
_ADJECTIVES = """
    best clean extra full good great large larger long longer new newest nice quick resealable rich short small smaller
    thick thin
"""
_OTHER_WORDS = frozenset((*_FUNCTION_WORDS.split(), *_ADJECTIVES.split()))
_PARTICIPLE = re.compile(r".{2,}(?:ated|aged|pped|ually)")


def lexicon_nouns(text: str) -> tuple[str, ...]:
    """Every word that is neither a function word nor a plain adjective, adverb or participle."""
    words = (match.group().lower() for match in _WORD.finditer(_POSSESSIVE.sub("", text)))
    return tuple(word for word in words if word not in _OTHER_WORDS and not _PARTICIPLE.fullmatch(word))


@functools.cache
def noun_extractor(name: str) -> NounExtractor:
    """The extractor of a name: ``lexicon``, or an installed spaCy pipeline such as ``en_core_web_lg``.

    Raises:
        ConfigError: if spaCy or the pipeline is not installed.
    """
    return _cached(lexicon_nouns) if name == LEXICON else _spacy_nouns(name)


def _cached(extract: NounExtractor) -> NounExtractor:
    # Two names a purchase, out of a fixed catalogue; spaCy takes milliseconds for one.
    return functools.lru_cache(maxsize=4096)(extract)


def _spacy_nouns(name: str) -> NounExtractor:
    try:
        spacy = importlib.import_module("spacy")
        pipeline = spacy.load(name)
    except (ImportError, OSError) as cause:
        raise ConfigError(
            f"webshop: the noun extractor {name!r} is not available: {cause}",
            f"take {LEXICON!r}, or install spaCy and that pipeline",
        ) from cause
    return _cached(
        lambda text: tuple(token.text.lower() for token in pipeline(text) if token.pos_ in ("NOUN", "PROPN"))
    )
