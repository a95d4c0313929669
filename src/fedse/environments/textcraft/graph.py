"""TextCraft's world, derived from the recipes: which items exist, how each is made, what an episode begins with."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedse.environments.parts import Part
from fedse.environments.textcraft.recipes import Ingredient, Recipe, read_recipes, spoken

#: Fewer goals of a name do not make a kind of their own.
_KIND_GOALS = 8
#: Commands that do not help, at most; the original's number.
_DISTRACTORS = 10
#: The original seeds every reset with 42.
_SEED = 42


class CraftingGraph:
    """The recipes after the original's clean-up (ADaPT, arXiv 2311.05772; AgentGym, arXiv 2406.04151).

    The order of the recipes matters: a recipe is left out if its output is already known to be needed, directly or not,
    for one of its ingredients, so of two recipes that undo each other the first stays.

    Args:
        recipes: all recipes.
        missing: items whose recipes nobody knows here; like all things without a recipe they can be fetched.

    Attributes:
        recipes: item → its recipes; its order is that in which the items first got one.
        tag_recipes: tag → the recipes of its members.
        tag_of: item → the one tag that it is a member of; of several the last read.
        tags: names that stand for any of their members and are no items themselves.
        items: everything that can be had.  An ingredient's tag without a craftable member ("oak logs") is an item.
        goals: craftable items by depth, the shallow ones first.
        number: goal → its position in ``goals``.
    """

    def __init__(self, recipes: Iterable[Recipe], missing: Collection[str] = ()) -> None:
        self.tag_of: dict[str, str] = {}
        self.tags: set[str] = set()
        self.items: set[str] = set()
        kept = [recipe for recipe in self._without_cycles(recipes) if recipe.output not in missing]
        craftable = {recipe.output for recipe in kept}
        made_tags = {tag for item, tag in self.tag_of.items() if item in craftable}
        self.recipes: dict[str, list[Recipe]] = {}
        self.tag_recipes: dict[str, list[Recipe]] = {}
        for recipe in kept:
            recipe = replace(recipe, ingredients=tuple(self._gettable(i, made_tags) for i in recipe.ingredients))
            self.recipes.setdefault(recipe.output, []).append(recipe)
            if recipe.group is not None:
                self.tag_recipes.setdefault(recipe.group, []).append(recipe)
        self._depths: dict[str, int] = {}
        self.goals: Sequence[str] = tuple(sorted(self.recipes, key=self.depth))
        self.number = {goal: position for position, goal in enumerate(self.goals)}

    def _without_cycles(self, recipes: Iterable[Recipe]) -> list[Recipe]:
        """The recipes that stay; notes items, tags and memberships on the way, also those of most recipes left out."""
        kept: list[Recipe] = []
        needs: dict[str, set[str]] = {}
        for recipe in recipes:
            for ingredient in recipe.ingredients:
                (self.tags if ingredient.is_tag else self.items).add(ingredient.name)
            self.items.add(recipe.output)
            names = [ingredient.name for ingredient in recipe.ingredients]
            if len(names) == 1 and names[0].endswith("_block"):
                continue
            if recipe.group is not None and recipe.group != recipe.output:
                self.tags.add(recipe.group)
                self.tag_of[recipe.output] = recipe.group
            known = needs.setdefault(recipe.output, set())
            if any(recipe.output in needs.get(name, ()) for name in names):
                continue
            kept.append(recipe)
            for name in names:
                known |= {name, *needs.get(name, ())}
        return kept

    def _gettable(self, ingredient: Ingredient, made_tags: set[str]) -> Ingredient:
        """The ingredient; as an item of the tag's name if it is a tag of which nothing can be made."""
        if not ingredient.is_tag or ingredient.name in made_tags:
            return ingredient
        self.tags.discard(ingredient.name)
        self.items.add(ingredient.name)
        return replace(ingredient, is_tag=False)

    def ways(self, name: str) -> Sequence[Recipe]:
        """The recipes of an item, or of a tag's members; none for what is simply fetched."""
        return self.recipes.get(name, ()) or self.tag_recipes.get(name, ())

    def depth(self, name: str) -> int:
        """Crafts that build upon one another on the shortest way to an item or tag; 0 if it has no recipe."""
        if name not in self._depths:
            self._depths[name] = min(
                (max(self.depth(ingredient.name) + 1 for ingredient in way.ingredients) for way in self.ways(name)),
                default=0,
            )
        return self._depths[name]

    def gettable(self, name: str) -> bool:
        """Can it be fetched: is it an item, and one that has no recipe?"""
        return name in self.items and name not in self.tags and not self.ways(name)

    def tree(self, goal: str) -> list[Recipe]:
        """All recipes of the goal, of their ingredients, of the ingredients' ingredients, and so on, each once."""
        found: dict[Recipe, None] = {}
        seen, waiting = {goal}, [goal]
        while waiting:
            for recipe in self.ways(waiting.pop()):
                found[recipe] = None
                fresh = [ingredient.name for ingredient in recipe.ingredients if ingredient.name not in seen]
                seen.update(fresh)
                waiting += fresh
        return list(found)

    @functools.cached_property
    def uses(self) -> dict[str, list[str]]:
        """Item or tag → the lines of the recipes that use it up, sorted."""
        lines: dict[str, set[str]] = {}
        for recipes in self.recipes.values():
            for recipe in recipes:
                for ingredient in recipe.ingredients:
                    lines.setdefault(ingredient.name, set()).add(recipe.line)
        return {name: sorted(found) for name, found in lines.items()}


@functools.lru_cache(maxsize=64)
def crafting_graph(missing: Part | None = None) -> CraftingGraph:
    """The world to play in, without the recipes of a part of the craftable items; made once per process.

    Raises:
        EnvironmentFault: if the recipes cannot be read.
    """
    if missing is None:
        return CraftingGraph(read_recipes())
    return CraftingGraph(read_recipes(), frozenset(missing.choose(sorted(crafting_graph().goals), "textcraft")))


@functools.cache
def goal_kinds() -> Mapping[str, str]:
    """Goal → its kind: the last word of its name, as in ``oak_sign``, or ``other`` where few goals share it."""
    words = {goal: goal.rpartition("_")[2] for goal in crafting_graph().goals}
    counts = Counter(words.values())
    return {goal: word if counts[word] >= _KIND_GOALS else "other" for goal, word in words.items()}


@dataclass(frozen=True, slots=True)
class Opening:
    """The goal and the commands of one episode."""

    goal: str  #: name of the item to craft
    commands: tuple[str, ...]  #: the lines shown, in order
    observation: str  #: the first observation


def make_opening(goal: str, commands: Sequence[str]) -> Opening:
    """An opening with its text."""
    listing = "\n".join(commands)
    return Opening(goal, tuple(commands), f"Crafting commands:\n{listing}\n\nGoal: craft {spoken(goal)}.")


@functools.lru_cache(maxsize=4096)
def opening(goal: str, missing: Part | None = None) -> Opening:
    """The opening of a task: all recipes of the goal's tree and up to ten others that use the same things, shuffled.

    The original draws and shuffles sets of strings, whose order changes from process to process; here they are sorted
    first and drawn with a generator of the task's own, so that a task is the same everywhere.

    Args:
        goal: the item to craft.
        missing: see :func:`crafting_graph`.
    """
    graph = crafting_graph(missing)
    rng = random.Random(_SEED + crafting_graph().number[goal])
    tree = graph.tree(goal)
    lines = {recipe.line for recipe in tree}
    others: set[str] = set()
    for name in sorted({ingredient.name for recipe in tree for ingredient in recipe.ingredients}):
        users = graph.uses[name]
        others.update(rng.sample(users, min(len(users), _DISTRACTORS)))
    spare = sorted(others - lines)
    listed = sorted(lines) + rng.sample(spare, min(len(spare), _DISTRACTORS))
    rng.shuffle(listed)
    return make_opening(goal, listed)
