"""A layout made ready for play: one linked, precomputed place per cell, so that a step is a dictionary look-up."""

from __future__ import annotations

from fedse.environments.base import StepResult
from fedse.environments.maze.layouts import Cell, Layout

#: The accepted actions; the original matches them exactly, case included.
ACTIONS = {f"move {direction}": direction for direction in ("left", "right", "up", "down")}

#: In the order in which the original names walls.
_PHRASES = {"right": "to your right", "left": "to your left", "up": "above you", "down": "below you"}


class Place:
    """One cell: what stepping onto it (or staying on it) answers, and where the accepted actions lead."""

    __slots__ = ("exits", "observation", "result")

    def __init__(self, observation: str, *, goal: bool) -> None:
        self.observation = observation
        self.result = StepResult("Success\n", 1.0, True) if goal else StepResult(observation, 0.0, False)
        self.exits: dict[str, Place] = {}


def board(layout: Layout) -> dict[Cell, Place]:
    """All places of a layout, linked."""
    places = {cell: Place(describe(layout, cell), goal=cell == layout.goal) for cell in layout.free}
    for cell, place in places.items():
        exits = layout.exits[cell]
        place.exits = {action: places[exits[way]] for action, way in ACTIONS.items() if way in exits}
    return places


def describe(layout: Layout, cell: Cell) -> str:
    """The original's observation of a cell (AgentGym's variant: no newline at the end)."""
    walls = [phrase for direction, phrase in _PHRASES.items() if direction not in layout.exits[cell]]
    if not walls:
        around = "There are no walls near you."
    elif len(walls) == 1:
        around = f"There is a wall {walls[0]}."
    else:
        around = f"There are walls {', '.join(walls)}."
    return (
        f"The goal is at position {layout.goal[0]}, {layout.goal[1]}. "
        f"Your current position is at position {cell[0]}, {cell[1]}. {around}"
    )
