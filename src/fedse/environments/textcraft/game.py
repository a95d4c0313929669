"""The rules: what an action means, and what it does to the inventory."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedse.environments.base import StepResult
from fedse.environments.parts import Part
from fedse.environments.textcraft.graph import CraftingGraph, crafting_graph
from fedse.environments.textcraft.recipes import NAMESPACE, Recipe, spoken, written
from fedse.environments.textcraft.wording import AMOUNT, CRAFT, GET, INVENTORY, refusal, short_of, spelled

#: Python refuses to read and to print numbers of more than 4,300 digits; sums of these stay below that.
_OVERLONG = re.compile(r"[0-9]{4001}")
#: Longer actions are understood each time anew, so that the cache stays small.
_CACHED_LENGTH = 200
#: Stands where an effect has no needs that could be lacking.
_NEVER = StepResult("", 0.0, False)


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action does, as far as that does not depend on the inventory."""

    answer: StepResult  #: what is said when it succeeds, or when it could not succeed with any inventory
    #: (item, count) that it adds, in exchange for ``needs``; ``None`` if the inventory stays as it is
    made: tuple[str, int] | None = None
    needs: tuple[tuple[str, int], ...] = ()  #: (item, count) that must be carried, each entry by itself
    lacking: StepResult = _NEVER  #: what the original says if something of that is missing


class Game:
    """One episode: an inventory and a goal.  It goes on after the goal has been crafted, as the original does.

    Args:
        goal: the item to craft.
        parity: understand and say only what the original does, and keep entries of zero items in the inventory after
            ``get 0 …``, as it does.
        missing: see :func:`~fedse.environments.textcraft.graph.crafting_graph`.
    """

    __slots__ = ("_goal", "_inventory", "_missing", "_parity")

    def __init__(self, goal: str, *, parity: bool, missing: Part | None = None) -> None:
        self._goal = goal
        self._missing = missing
        self._parity = parity
        self._inventory: dict[str, int] = {}

    def step(self, action: str) -> StepResult:
        """Do what an action says, or answer why not."""
        if len(action) <= _CACHED_LENGTH:
            effect = _remembered(action, self._missing, self._parity)
        else:
            effect = _understood(action, self._missing, self._parity)
        if effect is None:
            return _answer(self._listing())
        inventory = self._inventory
        for item, count in effect.needs:
            if item not in inventory or inventory[item] < count:
                return effect.lacking if self._parity else _answer(short_of(item, count, inventory.get(item, 0)))
        if effect.made is not None:
            self._exchange(effect.needs, *effect.made)
            if effect.made[0] == self._goal:
                return StepResult(effect.answer.observation, 1.0, True)
        return effect.answer

    def _exchange(self, used: Sequence[tuple[str, int]], item: str, made: int) -> None:
        inventory = self._inventory
        for name, count in used:
            inventory[name] -= count
            if not inventory[name]:
                del inventory[name]
        if made or self._parity:
            inventory[item] = inventory.get(item, 0) + made

    def _listing(self) -> str:
        if not self._inventory:
            return "Inventory: You are not carrying anything."
        # With a space at the end, as in the original.
        return "Inventory: " + "".join(f"[{spoken(item)}] ({count}) " for item, count in self._inventory.items())


def _understood(action: str, missing: Part | None, parity: bool) -> Effect | None:
    graph = crafting_graph(missing)
    if parity:
        return understand(graph, action)
    exact = spelled(graph, action)
    effect = understand(graph, exact)
    return effect if effect is None or effect.made else _only(refusal(graph, exact))


_remembered = functools.lru_cache(maxsize=4096)(_understood)


def understand(graph: CraftingGraph, action: str) -> Effect | None:
    """The effect of an action; ``None`` for a look at the inventory.

    As in the original, case counts and only the beginning has to match; see :mod:`fedse.environments.textcraft.wording`
    for what else is understood.
    """
    craft, get = CRAFT.match(action), GET.match(action)
    if (craft or get) and _OVERLONG.search(action):
        return _only(f"Could not execute {action}")
    if craft:
        return _understand_craft(graph, craft[1], craft[2])
    if get:
        name = written(get[2])
        if not graph.gettable(name):
            return _only(f"Could not find {get[2]}")
        count = int(get[1])
        return Effect(_answer(f"Got {count} {get[2]}"), made=(name, count))
    return None if action.startswith(INVENTORY) else _only(f"Could not execute {action}")


def _understand_craft(graph: CraftingGraph, output: str, inputs: str) -> Effect:
    needs = []
    for piece in inputs.split(","):
        amount = AMOUNT.match(piece.strip())
        if not amount:
            return _only(f"Wrong item format: {piece.strip()}")
        needs.append((written(amount[2]), int(amount[1])))
    amount = AMOUNT.match(output)
    name, count = (written(amount[2]), int(amount[1])) if amount else (written(output), 1)
    is_tag = name in graph.tags
    lacking = _answer(f"Could not find enough items to craft {None if is_tag else NAMESPACE + name}")
    recipe = None if is_tag else next((way for way in graph.recipes.get(name, ()) if _fits(graph, way, needs)), None)
    if recipe is None:
        answer = _answer(f"Could not find a valid recipe for {_asked(name, count, is_tag)}")
        return Effect(answer, None, tuple(needs), lacking)
    answer = _answer(f"Crafted {recipe.count} {NAMESPACE}{name}")
    return Effect(answer, (name, recipe.count), tuple(needs), lacking)


def _fits(graph: CraftingGraph, recipe: Recipe, needs: Sequence[tuple[str, int]]) -> bool:
    """Do the entries name the recipe's ingredients one to one, with the same counts?"""
    left = list(needs)
    for ingredient in recipe.ingredients:
        if ingredient.is_tag:
            entry = next((entry for entry in left if graph.tag_of.get(entry[0]) == ingredient.name), None)
        else:
            entry = next((entry for entry in left if entry[0] == ingredient.name), None)
        if entry is None or entry[1] != ingredient.count:
            return False
        left.remove(entry)
    return not left


def _asked(name: str, count: int, is_tag: bool) -> str:
    """What the original shows of an order that it cannot fill: its own object, printed."""
    tag, item = (repr(NAMESPACE + name), None) if is_tag else (None, repr(NAMESPACE + name))
    return f"ItemTagWithCount(item_tag=ItemTag(tag={tag}, item_id={item}), count={count})"


def _only(text: str) -> Effect:
    return Effect(_answer(text))


def _answer(text: str) -> StepResult:
    return StepResult(text, 0.0, False)
