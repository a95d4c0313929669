"""A catalogue of our own: products that are made up, in the statistics that matter of the original's.

A catalogue is a pure function of its name.  Some attributes are told in titles, or where the search finds them; all are
told in the bullets, every other time in other words, so that reading the pages pays.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedse.environments.webshop.families import family
from fedse.environments.webshop.products import Product
from fedse.environments.webshop.taxonomy import product_types
from fedse.seeding import python_random

#: Catalogue → number of products.
SIZES: Mapping[str, int] = {"1k": 1_000, "10k": 10_000, "100k": 100_000}


def generated(catalogue: str) -> list[Product]:
    """The products of a catalogue, in catalogue order.

    Args:
        catalogue: a key of :data:`SIZES`.
    """
    products: dict[str, Product] = {}
    kinds = product_types()
    number = 0
    while len(products) < SIZES[catalogue]:
        # A product whose number is taken is left out: one in 50 of the largest catalogue.
        for product in family(kinds[number % len(kinds)], python_random("webshop", "family", 1, catalogue, number)):
            products.setdefault(product.asin, product)
        number += 1
    chosen = list(products.values())[: SIZES[catalogue]]
    # The order decides between products of equal score in a search; a base must not always come before its twin.
    python_random("webshop", "order", 1, catalogue).shuffle(chosen)
    return chosen
