"""What an episode begins with: the goal, and the commands among which the useful ones have to be found."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from fedse.environments.parts import Part
from fedse.environments.textcraft.graph import crafting_graph
from fedse.environments.textcraft.recipes import spoken

#: Commands that do not help, at most; the original's number.
_DISTRACTORS = 10
#: The original seeds every reset with 42.
_SEED = 42


@dataclass(frozen=True, slots=True)
class Opening:
    """The goal and the commands of one episode.

    Attributes:
        goal: name of the item to craft.
        commands: the lines shown, in order.
        observation: the first observation.
    """

    goal: str
    commands: tuple[str, ...]
    observation: str


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
        missing: see :func:`~fedse.environments.textcraft.graph.crafting_graph`.
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
