"""How actions are written, what spells them otherwise, and what is said of those that do nothing."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from fedse.environments.forgiving import plain, shown
from fedse.environments.textcraft.graph import CraftingGraph
from fedse.environments.textcraft.recipes import NAMESPACE, spoken, written
from fedse.names import did_you_mean

CRAFT = re.compile(r"craft (.*) using (.*)")
GET = re.compile(r"get ([0-9]+) (.*)")
AMOUNT = re.compile(r"([0-9]+) (.*)")
INVENTORY = "inventory"
#: Between ingredients; there is an item "flint and steel".
_SEPARATOR = re.compile(r" ?,(?: ?and\b)? ?| and (?=[0-9])")
_FORMS = "Write get NUMBER ITEM, craft NUMBER ITEM using NUMBER ITEM, NUMBER ITEM, or inventory."
#: Longer texts are no misspelt names.
_LONGEST_NAME = 60


def spelled(graph: CraftingGraph, action: str) -> str:
    """The action in exact words; names that are in doubt stay as they are."""
    said = plain(action).replace(NAMESPACE, "")
    if get := GET.fullmatch(said):
        return f"get {get[1]} {_item(graph, get[2])}"
    if craft := CRAFT.fullmatch(said):
        inputs = ", ".join(_amount(graph, piece) for piece in _SEPARATOR.split(craft[2]))
        return f"craft {_amount(graph, craft[1])} using {inputs}"
    return said


def refusal(graph: CraftingGraph, action: str) -> str:
    """Why an action in exact words cannot be carried out with any inventory, and what would be right."""
    if get := GET.match(action):
        name = written(get[2])
        if name in graph.tags:
            return _any_kind(get[2])
        if name in graph.recipes:
            return f"{get[2]} cannot be fetched: {graph.recipes[name][0].line}"
        if name not in graph.items:
            return _no_such_item(graph, get[2])
    craft = CRAFT.match(action)
    if craft is None:
        return f"{shown(action)} is no action. {_FORMS}"
    for piece in craft[2].split(", "):
        amount = AMOUNT.match(piece)
        if amount is None:
            return f"Write a number before {shown(piece)}."
        if problem := _not_an_item(graph, amount[2]):
            return problem
    amount = AMOUNT.match(craft[1])
    output = amount[2] if amount else craft[1]
    if problem := _not_an_item(graph, output):
        return problem
    ways = graph.recipes.get(written(output), ())
    if not ways:
        return f"No command makes {output}: get it."
    return f"There is no such command. To make {output}: {ways[0].line}"


def short_of(item: str, needed: int, carried: int) -> str:
    """What is said if something is missing."""
    return f"This takes {needed} {spoken(item)}, you have {carried}."


def _not_an_item(graph: CraftingGraph, text: str) -> str:
    """What to say of a name that is no item's; empty if it is one."""
    name = written(text)
    if name in graph.tags:
        return _any_kind(text)
    return "" if name in graph.items else _no_such_item(graph, text)


def _any_kind(tag: str) -> str:
    return f"{tag} means any one kind: write the kind that you have."


def _no_such_item(graph: CraftingGraph, text: str) -> str:
    near = did_you_mean(text, map(spoken, graph.items)) if len(text) <= _LONGEST_NAME else ""
    return f"There is no {shown(text)}. {near.capitalize()}".strip()


def _amount(graph: CraftingGraph, text: str) -> str:
    amount = AMOUNT.fullmatch(text)
    return f"{amount[1]} {_item(graph, amount[2])}" if amount else _item(graph, text)


def _item(graph: CraftingGraph, text: str) -> str:
    """The item's name as commands write it; a plural is the singular, or the other way round, if only one exists."""
    names = _names(graph)
    forms = {text, f"{text}s", f"{text}es", text.removesuffix("s"), text.removesuffix("es")}
    found = {names[form] for form in forms if form in names}
    return names[text] if text in names else found.pop() if len(found) == 1 else text


@functools.lru_cache(maxsize=64)
def _names(graph: CraftingGraph) -> Mapping[str, str]:
    """Plain spelling → name as commands write it."""
    return {plain(spoken(item)): spoken(item) for item in graph.items}
