"""Worlds made by MiniGrid: the levels, their random generators and their missions are that library's.

This module imports MiniGrid, which takes a second; it is itself imported when the first world is needed.
"""

from __future__ import annotations

import functools
import os
from typing import Any

# Before pygame is imported by MiniGrid: it greets on standard output.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import gymnasium
import minigrid  # noqa: F401 (registers the levels)
from gymnasium.envs.registration import load_env_creator
from minigrid.core.roomgrid import RoomGrid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai import GoToObj
from minigrid.envs.babyai.core import verifier
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling, RoomGridLevel

from fedse.environments.babyai import cells, missions
from fedse.environments.babyai.world import MARGIN, Scene


class _Quiet:
    """Mixed into a level: what makes it slow or noisy and has no effect on its worlds is left out."""

    def _gen_grid(self: Any, width: int, height: int) -> None:
        # The library's own loop, without its printing of every world that does not meet the level's conditions.
        while True:
            try:
                RoomGrid._gen_grid(self, width, height)
                self.gen_mission()
                self.validate_instrs(self.instrs)
            except (RecursionError, RejectSampling):
                continue
            break
        self.surface = self.mission = self.instrs.surface(self)

    def gen_obs(self) -> dict[str, Any]:
        # The most expensive part of a step; the text is made from our own view.
        return {}


@functools.cache
def _level_class(level: str) -> tuple[type[Any], dict[str, Any]]:
    if level == "GoToObjS6":
        # MiniGrid has removed the version that AgentGym used, whose rooms had in fact side 4.
        made_by, options = GoToObj, {"room_size": 4}
    else:
        spec = gymnasium.spec(f"BabyAI-{level}-v0")
        made_by, options = load_env_creator(str(spec.entry_point)), dict(spec.kwargs)
    return type(made_by.__name__, (_Quiet, made_by), {}), options


def level_environment(level: str, seed: int) -> RoomGridLevel:
    """A MiniGrid environment of a level, reset to a seed.

    A new one each time: making it takes a tenth of a millisecond, and no world can depend on those made before.
    """
    cls, options = _level_class(level)
    environment: RoomGridLevel = cls(**options)
    environment.reset(seed=seed)
    return environment


@functools.lru_cache(maxsize=1024)
def scene(level: str, seed: int) -> Scene:
    """The world of a level and a seed; the same task is played many times."""
    environment = level_environment(level, seed)
    grid = environment.grid
    stride = grid.width + 2 * MARGIN
    codes = bytearray([cells.WALL]) * (stride * (grid.height + 2 * MARGIN))
    found: list[WorldObj] = []
    things: dict[int, int] = {}
    for number, thing in enumerate(grid.grid):
        cell = cell_of(grid.width, number % grid.width, number // grid.width)
        codes[cell] = _code(thing)
        if thing is not None and thing.type != "wall":
            things[cell] = len(found)
            found.append(thing)
    places = {number: cell for cell, number in things.items()}
    carried = None
    if environment.carrying is not None:
        carried = len(found)
        found.append(environment.carrying)
        # The mission looked around before the agent was handed the thing.
        places[carried] = cell_of(grid.width, *environment.carrying.init_pos)
    column, row = environment.agent_pos
    return Scene(
        level=level,
        seed=seed,
        mission=environment.mission.replace("then", "and").replace("after you", "and"),
        clause=_Clauses(environment, found).of(environment.instrs, environment.mission),
        max_steps=environment.max_steps,
        width=grid.width,
        codes=bytes(codes),
        looks=tuple(_code(thing) for thing in found),
        things=things,
        places=places,
        position=cell_of(grid.width, column, row),
        heading=int(environment.agent_dir),
        carried=carried,
    )


def cell_of(width: int, column: int, row: int) -> int:
    """The number of a cell in a world of a width."""
    return (int(row) + MARGIN) * (width + 2 * MARGIN) + int(column) + MARGIN


def _code(thing: WorldObj | None) -> int:
    if thing is None:
        return cells.EMPTY
    if thing.type == "wall":
        return cells.WALL
    kind = thing.type
    if kind == "door":
        kind = f"{'open' if thing.is_open else 'locked' if thing.is_locked else 'closed'} door"
    return cells.code_of(kind, thing.color)


class _Clauses:
    """Turns MiniGrid's instructions into clauses over thing numbers."""

    def __init__(self, environment: RoomGridLevel, things: list[WorldObj]) -> None:
        self._environment = environment
        self._numbers = {id(thing): number for number, thing in enumerate(things)}

    def of(self, instruction: verifier.Instr, text: str) -> missions.Clause:
        """The clause of an instruction that reads ``text``."""
        match instruction:
            case verifier.BeforeInstr():
                return missions.Sequence(self._part(instruction.instr_a), self._part(instruction.instr_b))
            case verifier.AfterInstr():
                return missions.Sequence(self._part(instruction.instr_b), self._part(instruction.instr_a))
            case verifier.AndInstr():
                return missions.Both(self._part(instruction.instr_a), self._part(instruction.instr_b))
            case verifier.GoToInstr():
                return missions.GoTo(text, self._targets(instruction.desc))
            case verifier.OpenInstr():
                return missions.Open(text, self._targets(instruction.desc), instruction.strict)
            case verifier.PickupInstr():
                return missions.PickUp(text, self._targets(instruction.desc), instruction.strict)
            case verifier.PutNextInstr():
                moved, fixed = self._targets(instruction.desc_move), self._targets(instruction.desc_fixed)
                return missions.PutNext(text, moved, fixed)
        raise TypeError(f"no clause is known for a MiniGrid instruction of type {type(instruction).__name__}")

    def _part(self, instruction: verifier.Instr) -> missions.Clause:
        return self.of(instruction, instruction.surface(self._environment))

    def _targets(self, description: verifier.ObjDesc) -> frozenset[int]:
        # "The grey object" matches grey walls too, but only to be picked up, which a wall never is.
        return frozenset(self._numbers[id(thing)] for thing in description.obj_set if thing.type != "wall")
