"""The way that MiniGrid's bot would go on, step by step.

The bot plans on what has been seen: it keeps a map of seen cells, explores where it knows no way, and removes what
blocks one.  It is the library's own, made faster and given a limit on its deliberation, which can otherwise go on for
ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import ObjDesc
from minigrid.utils.baby_ai_bot import BabyAIBot, DropSubgoal, GoNextToSubgoal, OpenSubgoal, PickupSubgoal, Subgoal

from fedse.environments.babyai import cells
from fedse.environments.babyai.generation import level_environment
from fedse.environments.babyai.thoughts import Aim, Purpose
from fedse.environments.babyai.world import HEADINGS, MARGIN, Pose, World

#: Searches that the bot may make for one step.  Of 4,735 steps in 160 worlds of all levels none took more than 11.
_SEARCHES = 100


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan."""

    action: int  #: the primitive step
    aim: Aim  #: why it is taken
    #: pose, arrangement: of the world after it
    pose: Pose
    arrangement: Hashable


#: Column and row, and the same with a direction.
_Position = tuple[int, int]
_State = tuple[int, int, int, int]

#: Code → 1 if ways end there: at walls and shut doors, or at walls and locked doors.
_SHUT = cells.OPAQUE
_LOCKED = bytes(code == cells.WALL or code in cells.LOCKED for code in range(256))


class _StuckError(Exception):
    """The bot has deliberated for too long."""


class _Bot(BabyAIBot):  # type: ignore[misc] # untyped
    """The library's bot with its two slowest parts, which take two thirds of its time, done on bytes.

    If it is ``mapped``, it has seen all that is not locked away, and its ways lead through doors that are merely shut.
    """

    def __init__(self, environment: RoomGridLevel, twin: World, *, mapped: bool) -> None:
        super().__init__(environment)
        self.searches = 0
        self._twin = twin
        self._closed = _LOCKED if mapped else _SHUT
        if mapped:
            self.learn(_not_locked_away(twin))

    def _process_obs(self) -> None:
        self.learn(self._twin.seen_cells())

    def learn(self, seen: Iterable[int]) -> None:
        """Take cells for seen."""
        for cell in seen:
            row, column = divmod(cell, self._twin.scene.width + 2 * MARGIN)
            self.vis_mask[column - MARGIN, row - MARGIN] = True

    def _breadth_first_search(
        self, initial_states: Iterable[_State], accept_fn: Callable[[_Position, Any], bool], ignore_blockers: bool
    ) -> tuple[list[_Position] | None, _Position | None, dict[_Position, _Position | None]]:
        """A way back from the first accepted position; the position; and all positions visited with their predecessors.

        Straight on is tried before the turns.  The search ends at unseen cells, walls, shut doors and, unless they are
        to be ignored, at things.
        """
        self.searches += 1
        if self.searches > _SEARCHES:
            raise _StuckError
        grid, codes, stride = self.mission.unwrapped.grid, self._twin.codes, self._twin.scene.width + 2 * MARGIN
        seen = self.vis_mask.tolist()
        things = not ignore_blockers
        came: dict[_Position, _Position | None] = {}
        queue: deque[tuple[_State, _Position | None]] = deque((state, None) for state in initial_states)
        while queue:
            (column, row, right, down), before = queue.popleft()
            here = (column, row)
            if here in came:
                continue
            came[here] = before
            if accept_fn(here, grid.get(column, row)):
                way = [here]
                while before is not None:
                    way.append(before)
                    before = came[before]
                return way, here, came
            code = codes[(row + MARGIN) * stride + column + MARGIN]
            if not seen[column][row] or self._closed[code] or (things and code in cells.PORTABLE):
                continue
            for x, y in ((right, down), (down, right), (-down, -right), (-right, -down)):
                if (column + x, row + y) not in came:
                    queue.append(((column + x, row + y, x, y), here))
        return None, None, came


def _not_locked_away(world: World) -> set[int]:
    """The cells that can be reached without a key, and the walls and doors around them."""
    steps = world.scene.steps
    around = (*steps, *(steps[heading] + steps[heading - 1] for heading in range(HEADINGS)))
    found, queue = {world.position}, deque([world.position])
    while queue:
        cell = queue.popleft()
        if not _LOCKED[world.codes[cell]]:
            fresh = {cell + step for step in around} - found
            found |= fresh
            queue.extend(fresh)
    return found


class Plan:
    """The bot's way on from a world, worked out as far as it is asked for.

    The bot knows what was seen on the way there; if ``mapped``, the whole map except what is behind locked doors.
    """

    def __init__(self, world: World, *, mapped: bool) -> None:
        scene = world.scene
        self.steps: list[Planned] = []
        self._twin = World(scene)
        self._environment = level_environment(scene.level, scene.seed)
        seen = set(self._twin.seen_cells())
        for action in world.taken:
            self._environment.step(action)
            self._twin.act(action)
            seen.update(self._twin.seen_cells())
        self._bot: _Bot | None = _Bot(self._environment, self._twin, mapped=mapped)
        self._bot.learn(seen)

    def extend(self, length: int) -> None:
        """Work out the plan up to ``length`` steps; it stays shorter if it ends or the bot knows no way."""
        while len(self.steps) < length and self._bot is not None and not self._twin.over:
            self._bot.searches = 0
            try:
                action = self._bot.replan()
            except (AssertionError, TypeError, _StuckError):
                # The library's bot asserts that what it needs is there (a key in a box is beyond it), and takes a place
                # to put something down for a tuple when there is none.  What it has planned so far still holds.
                action = self._environment.actions.done
            if action == self._environment.actions.done:
                self._bot = None
                return
            aim = _aim(self._bot.stack)
            self._environment.step(action)
            self._twin.act(int(action))
            self.steps.append(Planned(int(action), aim, self._twin.pose, self._twin.arrangement))


def _aim(stack: list[Subgoal]) -> Aim:
    """The bot's subgoals, the next one last, as an aim."""
    *later, subgoal = stack
    if subgoal.is_exploratory():
        return Aim(Purpose.EXPLORE, "")
    if not isinstance(subgoal, GoNextToSubgoal):
        return Aim(_purpose(stack), "")
    # It goes somewhere for the sake of what comes then.
    known = isinstance(subgoal.datum, ObjDesc | WorldObj)
    words = (subgoal.datum.color, subgoal.datum.type) if known else ()
    return Aim(_purpose(later), " ".join(word for word in words if word))


def _purpose(stack: list[Subgoal]) -> Purpose:
    match stack:
        case [*_, DropSubgoal()]:
            return Purpose.PUT_DOWN
        case [*_, GoNextToSubgoal(reason="Open") | OpenSubgoal(), PickupSubgoal()]:
            return Purpose.FETCH_KEY
        case [*_, DropSubgoal(), GoNextToSubgoal(reason=None), PickupSubgoal()]:
            # It puts the thing down elsewhere at once.
            return Purpose.CLEAR_WAY
    return Purpose.MISSION
