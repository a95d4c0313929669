"""What can be told of a turn in TextCraft, and of what can be done after it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fedse.environments.review import Review, Seen
from fedse.environments.textcraft.graph import CraftingGraph
from fedse.environments.textcraft.recipes import spoken, written

_GOAL = re.compile(r"Goal: craft (.+)\.")
_COMMAND = re.compile(r"craft \d+ (.+) using (.+)")
_LINE = re.compile(r"^craft (\d+ .+) using (.+)$", re.MULTILINE)
_AMOUNTS = re.compile(r"(\d+) ([^,]+)")
_GOT = re.compile(r"Got (\d+) (.+)")
_CRAFTED = re.compile(r"Crafted (\d+) minecraft:(.+)")
_AMOUNT = re.compile(r"(\d+) (.+)")
_DONE = ("Got ", "Crafted ", "Inventory")
_WANTED = re.compile(r"(?:\bgoal(?: is)?:? |\bI want )(?:to craft )?([a-z' ]+?)\.", re.IGNORECASE)
_HELD = re.compile(r"\bI (?:have|hold|carry) (\d+ [^.]+)\.", re.IGNORECASE)
_NO_COMMAND = re.compile(r"\b(?:no command (?:makes|for)|nothing crafts) ([a-z' ]+?)[,:]", re.IGNORECASE)


def review(turns: Sequence[Seen]) -> list[Review]:
    """See :meth:`fedse.environments.base.Environment.review`."""
    opening = turns[0].observation if turns else ""
    carried: Counter[str] = Counter()
    reviews = []
    for turn in turns:
        reviews.append(Review(turn.answer.startswith(_DONE), _truthful(turn.thought, opening, carried)))
        _note(turn, carried)
    return reviews


def offers(turns: Sequence[Seen], graph: CraftingGraph) -> list[str]:
    """Commands shown for which all is there, and what is lacking for the others and can be fetched.

    See :meth:`fedse.environments.base.Environment.offers`.
    """
    carried: Counter[str] = Counter()
    for turn in turns:
        _note(turn, carried)
    found: dict[str, None] = {}
    for made, inputs in _LINE.findall(turns[0].observation):
        amounts = _AMOUNTS.findall(inputs)
        needs = []
        for count, name in amounts:
            kinds = [spoken(item) for item in sorted(graph.tag_of) if graph.tag_of[item] == written(name)]
            kinds = kinds if written(name) in graph.tags else [name]
            there = [kind for kind in kinds if carried[kind] >= int(count)]
            needs += [f"{count} {kind}" for kind in there[:1]]
            if not there and graph.gettable(written(kinds[0])):
                found[f"get {count} {kinds[0]}"] = None
        if len(needs) == len(amounts):
            found[f"craft {made} using {', '.join(needs)}"] = None
    return list(found)


def _note(turn: Seen, carried: Counter[str]) -> None:
    if got := _GOT.fullmatch(turn.answer):
        carried[got[2]] += int(got[1])
    elif crafted := _CRAFTED.fullmatch(turn.answer):
        command = _COMMAND.fullmatch(turn.action)
        for amount in map(_AMOUNT.fullmatch, command[2].split(", ") if command else ()):
            if amount:
                carried[amount[2]] -= int(amount[1])
        carried[crafted[2].replace("_", " ")] += int(crafted[1])


def _truthful(thought: str, opening: str, carried: Counter[str]) -> bool:
    goal = _GOAL.search(opening)
    made = {found[1] for found in _COMMAND.finditer(opening)}
    return (
        all(goal is None or wanted == goal[1] for wanted in _WANTED.findall(thought))
        and not any(name in made for name in _NO_COMMAND.findall(thought))
        and all(
            amount is not None and carried[amount[2]] >= int(amount[1])
            for claim in _HELD.findall(thought)
            for amount in map(_AMOUNT.fullmatch, claim.split(", "))
        )
    )
