"""The shop's search engine: BM25 over titles, descriptions, first bullets and options.

The original asks Lucene through Pyserini, with k1 = 0.9, b = 0.4 and Lucene's English analyzer.  Formula, settings and
analyzer are the same here; products of equal score come in catalogue order.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fedse.environments.webshop.products import Product

#: What a search finds at most.
MAX_RESULTS = 50

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$")
# Lucene's default for English.
_STOP_WORDS = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with
"""
_STOPPED = frozenset(_STOP_WORDS.split())


class Ranking(Protocol):
    """A search engine."""

    def search(self, query: str) -> Sequence[int]:
        """Positions of the products found in the catalogue, best first."""


class Bm25:
    """BM25 over a catalogue.

    Args:
        products: the catalogue.
        titles_only: search nothing but titles; a shop of another kind.
    """

    def __init__(self, products: Sequence[Product], *, titles_only: bool = False) -> None:
        # Here, because bm25s imports scipy: half a second that listing environments need not wait for.
        import bm25s

        corpus = [analyzed(product.title if titles_only else document(product)) for product in products]
        self._vocabulary = {word: number for number, word in enumerate(sorted(set().union(*corpus)))}
        ids = [[self._vocabulary[word] for word in words] for words in corpus]
        engine: Any = bm25s.BM25  # untyped
        self._engine = engine(k1=0.9, b=0.4, method="lucene")
        self._engine.index((ids, self._vocabulary), create_empty_token=False, show_progress=False)
        self._found = functools.lru_cache(maxsize=4096)(self._find)

    def search(self, query: str) -> Sequence[int]:
        """See :class:`Ranking`; a word that is repeated counts as often."""
        return self._found(tuple(self._vocabulary[word] for word in analyzed(query) if word in self._vocabulary))

    def _find(self, words: tuple[int, ...]) -> tuple[int, ...]:
        if not words:
            return ()
        scores = self._engine.get_scores_from_ids(list(words))
        found = np.flatnonzero(scores)
        if len(found) > MAX_RESULTS:
            # All that reach the 50th score, so that ties at the end are cut in catalogue order, too.
            found = found[scores[found] >= np.partition(scores[found], -MAX_RESULTS)[-MAX_RESULTS]]
        best = found[np.argsort(-scores[found], kind="stable")]
        return tuple(best[:MAX_RESULTS].tolist())


class Overlap:
    """A plainer engine: the more words of the query a product's text holds the better, whatever the words are.

    Products with equally many words come in the catalogue's order.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self._places: dict[str, list[int]] = {}
        for place, product in enumerate(products):
            for word in {*analyzed(document(product))}:
                self._places.setdefault(word, []).append(place)

    def search(self, query: str) -> Sequence[int]:
        """See :class:`Ranking`."""
        held = Counter(place for word in {*analyzed(query)} for place in self._places.get(word, ()))
        return sorted(held, key=lambda place: (-held[place], place))[:MAX_RESULTS]


#: Option ``search`` → how to make the engine.
ENGINES: Mapping[str, Callable[[Sequence[Product]], Ranking]] = {
    "bm25": Bm25,
    "titles": functools.partial(Bm25, titles_only=True),
    "overlap": Overlap,
}
DEFAULT_ENGINE = "bm25"


def document(product: Product) -> str:
    """What is searched of a product."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    return " ".join((product.title, product.description, *product.bullets[:1], options)).lower()


def analyzed(text: str) -> list[str]:
    """Lower-case word stems without stop words (Porter, Program 14(3), 1980)."""
    words = (_POSSESSIVE.sub("", word) for word in _WORD.findall(text.lower()))
    return _stemmer()([word for word in words if word not in _STOPPED])


@functools.cache
def _stemmer() -> Callable[[list[str]], list[str]]:
    import Stemmer

    stem: Callable[[list[str]], list[str]] = Stemmer.Stemmer("porter").stemWords
    return stem
