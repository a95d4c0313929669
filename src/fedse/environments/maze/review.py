"""What can be told of a turn in the maze, and of what can be done after it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedse.environments.review import Review, Seen, undone

_GOAL = re.compile(r"The goal is at position (\d+), (\d+)\.")
_POSITION = re.compile(r"Your current position is at position (\d+), (\d+)\.")
_WALLS = {"left": "to your left", "right": "to your right", "up": "above you", "down": "below you"}
_SIDES = {"left": "left", "right": "right", "up": "up", "above": "up", "down": "down", "below": "down"}
#: "Row 8 to 4: up": where the agent is, where the goal is, and where that lies.
_WAY = re.compile(r"\b(row|column) (\d+) to (\d+): (\w+)", re.IGNORECASE)
_TOWARD = {("row", -1): "up", ("row", 1): "down", ("column", -1): "left", ("column", 1): "right"}
_BLOCKED = re.compile(r"\b(?:walls|blocked) ((?:(?:left|right|up|down)(?:, )?)+|none)", re.IGNORECASE)
_FREE = re.compile(r"\b(?:open|free) ((?:(?:left|right|up|down)(?:, )?)+)", re.IGNORECASE)
_WALL = re.compile(
    r"\bwalls? (?:is |are )?(?:to|on) (?:my|your|the) (left|right)|\bwalls? (above|below)", re.IGNORECASE
)
_CELL = re.compile(r"\bposition (?:is )?\(?(\d+), ?(\d+)\)?", re.IGNORECASE)

_Cell = tuple[int, int]


def review(turns: Sequence[Seen]) -> list[Review]:
    """See :meth:`fedse.environments.base.Environment.review`."""
    states = [_cell(_POSITION, turn.observation) for turn in turns]
    lost = undone([*states, _cell(_POSITION, turns[-1].answer)]) if turns else []
    return [Review(not wasted, _truthful(turn)) for turn, wasted in zip(turns, lost, strict=True)]


def offers(turns: Sequence[Seen]) -> list[str]:
    """Moves into no wall; see :meth:`fedse.environments.base.Environment.offers`."""
    return [f"move {way}" for way, words in _WALLS.items() if words not in turns[-1].answer]


def _truthful(turn: Seen) -> bool:
    here, goal = _cell(_POSITION, turn.observation), _cell(_GOAL, turn.observation)
    if here is None or goal is None:
        return True
    walls = {way for way, words in _WALLS.items() if words in turn.observation}
    thought = turn.thought
    return (
        all(_is_way(*claim, here=here, goal=goal) for claim in _WAY.findall(thought))
        and all(_ways(claim) == walls for claim in _BLOCKED.findall(thought))
        and all(_ways(claim) == _WALLS.keys() - walls for claim in _FREE.findall(thought))
        and all(_SIDES[(left or above).lower()] in walls for left, above in _WALL.findall(thought))
        and all((int(row), int(column)) in (here, goal) for row, column in _CELL.findall(thought))
    )


def _is_way(axis: str, start: str, end: str, way: str, *, here: _Cell, goal: _Cell) -> bool:
    place = ("row", "column").index(axis.lower())
    if (int(start), int(end)) != (here[place], goal[place]):
        return False
    sign = (goal[place] > here[place]) - (goal[place] < here[place])
    expected = _TOWARD.get((axis.lower(), sign))
    return way.lower() == expected if expected else way.lower() not in _WALLS


def _ways(text: str) -> set[str]:
    return {way for way in _WALLS if re.search(rf"\b{way}\b", text.lower())}


def _cell(pattern: re.Pattern[str], text: str) -> _Cell | None:
    found = pattern.search(text)
    return (int(found[1]), int(found[2])) if found else None
