"""What kinds of products there are: the tables in the package's folder ``catalogue``."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fedse.environments.sampling import in_turns

DEPARTMENTS = ("fashion", "beauty", "grocery", "electronics", "garden")


@dataclass(frozen=True)
class ProductType:
    """A kind of product."""

    category: str  #: its department
    query: str  #: what it is called in the plural; names it
    breadcrumb: str  #: its place in the shop, ``A › B › C``
    nouns: tuple[str, ...]  #: what one of them may be called in a title
    price: tuple[float, float]  #: usual lowest and highest price, in dollars
    options: Mapping[str, tuple[str, ...]]  #: option name → all values
    attributes: tuple[str, ...]  #: attributes that one may have
    uses: tuple[str, ...]  #: what it may be for


@functools.cache
def product_types() -> tuple[ProductType, ...]:
    """All kinds of products; departments in turns, so that any number of families is balanced between them."""
    return tuple(in_turns([_department(name) for name in DEPARTMENTS]))


def _department(name: str) -> list[ProductType]:
    table = _read(name)
    return [
        ProductType(
            category=table["category"],
            query=kind["query"],
            breadcrumb=" › ".join((table["root"], *kind["path"])),
            nouns=tuple(kind["nouns"]),
            price=(kind["price"][0], kind["price"][1]),
            options={option: tuple(table["options"][option]) for option in kind["options"]},
            attributes=tuple(kind["attributes"]),
            uses=tuple(table["uses"]),
        )
        for kind in table["types"]
    ]


@functools.cache
def wordings() -> Mapping[str, tuple[str, ...]]:
    """Attribute → sentences that tell it in other words."""
    return {attribute: tuple(sentences) for attribute, sentences in _read("wording")["attributes"].items()}


@functools.cache
def exclusive() -> tuple[frozenset[str], ...]:
    """Sets of attributes of which a product has at most one."""
    return tuple(frozenset(group) for group in _read("wording")["exclusive"])


def _read(name: str) -> dict[str, Any]:
    file = resources.files("fedse.environments.webshop").joinpath("catalogue", f"{name}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))
