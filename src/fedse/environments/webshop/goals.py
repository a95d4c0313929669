"""Goals in WebShop's order: every combination of option values of every product with an instruction."""

from __future__ import annotations

import functools
import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Sequence

from fedse.environments.webshop.products import NO_LIMIT, Goal, Product

# The seed and the steps are the original's, so that a goal's index means the same there and here.
_SEED = 233
_LEVELS = range(10, 1000, 10)


class Goals(Sequence[Goal]):
    """All goals of a catalogue by index; made when asked for, since large catalogues have hundreds of thousands.

    Args:
        products: the catalogue, in its order.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        rng = random.Random(_SEED)
        self._products = [product for product in products if product.instruction]
        self._limits = [_price_limit(product.price, rng) for product in self._products]
        counts = [math.prod(map(len, product.options.values())) for product in self._products]
        self._first = [0, *itertools.accumulate(counts)]
        self._order = list(range(self._first[-1]))
        random.Random(_SEED).shuffle(self._order)
        self._made = functools.lru_cache(maxsize=4096)(self._goal)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Goal:  # type: ignore[override]
        return self._made(self._order[index])

    def by_product(self) -> list[tuple[Product, list[int]]]:
        """Every product with an instruction, and the indices of its goals in ascending order."""
        indices: list[list[int]] = [[] for _ in self._products]
        for index, number in enumerate(self._order):
            indices[bisect_right(self._first, number) - 1].append(index)
        return list(zip(self._products, indices, strict=True))

    def _goal(self, number: int) -> Goal:
        place = bisect_right(self._first, number) - 1
        product, limit = self._products[place], self._limits[place]
        options = _combination(product, number - self._first[place])
        wishes = [f" with {', and '.join(f'{name}: {value}' for name, value in options.items())}"] if options else []
        if limit < NO_LIMIT:
            wishes.append(f", and price lower than {limit:.2f} dollars")
        return Goal(product, product.instruction + "".join(wishes), product.wanted, options, limit)


def _price_limit(price: float, rng: random.Random) -> float:
    """The larger of two drawn out of the next four multiples of ten dollars; none above 980 dollars."""
    levels = [float(level) for level in _LEVELS if level > price][:4]
    return max(rng.sample(levels, 2)) if len(levels) >= 2 else NO_LIMIT


def _combination(product: Product, number: int) -> dict[str, str]:
    """Combination ``number`` of option values, names in alphabetical order, the last name changing fastest."""
    chosen = {}
    for name in sorted(product.options, reverse=True):
        number, place = divmod(number, len(product.options[name]))
        chosen[name] = product.options[name][place]
    return dict(reversed(chosen.items()))
