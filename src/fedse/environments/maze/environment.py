"""The maze environment: LMRL-Gym's maze as AgentGym serves it, and generated mazes in the same style."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from fedse.environments.base import (
    Environment,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    TaskTraits,
    task_number,
)
from fedse.environments.forgiving import meant, shown
from fedse.environments.maze.expert import MazeExpert
from fedse.environments.maze.generator import (
    DEFAULT_STYLE,
    STYLES,
    TEST_MAZES,
    TRAIN_MAZES,
    generated,
    has_loop,
    trip_ids,
    trips,
)
from fedse.environments.maze.instructions import CONCISE, FULL
from fedse.environments.maze.layouts import ACTIONS, DOUBLE_T, NAMED, Cell, Layout, Place, board
from fedse.environments.maze.review import offers, review
from fedse.environments.review import Review, Seen
from fedse.errors import ConfigError, EnvironmentFault
from fedse.names import unknown_name
from fedse.types import Task

#: The server's own limit on steps; the turn limit of the agent is lower.
STEP_CAP = 50
MAX_TURNS = 15
#: Moves from the farthest start of the splits ``train`` and ``test``.
LONGEST_PATH = 12
TIMEOUT = StepResult("Failure\n", -1.0, True)

_CHOICES = f"Write one of: {', '.join(ACTIONS)}."

#: Games that AgentTraj's training trajectories start from and that can still be reset.
TRAJECTORY_GAMES = (13, 14, 15, 16, 17, 18, 19, 20, 21, 22)
#: One test task in so many is a start of ``double_t``.
_TEST_PERIOD = 8
#: Demonstrations of the Fed-SE paper.
_PAPER_TRAIN = 215
_MAZES = TRAIN_MAZES + TEST_MAZES


class Maze(Environment):
    """Walk to the goal, seeing only positions and adjacent walls.

    Args:
        max_path: leave out tasks that are more than so many moves from the goal, 1 to 12; 12 leaves out none of the
            splits ``train`` and ``test``.
        layout: what generated mazes look like: ``random`` as ``double_t``, ``loops`` with ways around, ``winding``
            with short corridors and many turns.
        only: number of a generated maze, 0 to 2,474; the splits ``train`` and ``test`` are then trips in that one maze,
            and no trip of one, nor its way back, is in the other.
        parity: understand only the four exact actions, as the original server does, and also reproduce what it gets
            wrong (an empty message for game 25).
    """

    name: ClassVar[str] = "maze"
    agentgym: ClassVar[str] = "fedse.environments.maze.agentgym:MazeCounterpart"

    def __init__(
        self,
        *,
        max_path: int = LONGEST_PATH,
        layout: str = DEFAULT_STYLE,
        only: int | None = None,
        parity: bool = False,
    ) -> None:
        if isinstance(max_path, bool) or not isinstance(max_path, int) or not 1 <= max_path <= LONGEST_PATH:
            raise ConfigError(f"maze: max_path must be a number from 1 to {LONGEST_PATH}, found {max_path!r}")
        if layout not in STYLES:
            raise ConfigError(f"maze has no layout {layout!r}", f"take one of {', '.join(STYLES)}")
        if only is not None and (isinstance(only, bool) or not isinstance(only, int) or not 0 <= only < _MAZES):
            raise ConfigError(f"maze: only must be the number of a maze, 0 to {_MAZES - 1}, found {only!r}")
        if not isinstance(parity, bool):
            raise ConfigError(f"maze: parity must be true or false, found {parity!r}")
        self._max_path = max_path
        self._style = layout
        self._only = only
        self._options = {"max_path": max_path, "layout": layout, "only": only, "parity": parity}
        self._parity = parity
        self._layout: Layout = DOUBLE_T
        self._place: Place | None = None
        self._steps = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """15 turns, as in AgentGym's scripts; only the goal gives a reward above 0.99."""
        return EnvironmentSpec(
            name=self.name,
            version=2,
            summary="Find the way to a goal, seeing only positions and adjacent walls (LMRL-Gym, AgentGym).",
            max_turns=MAX_TURNS,
            success_above=0.99,
            max_response_tokens=64,
            action_rule="first",
            splits={split: len(self.tasks(split)) for split in _SPLITS},
            options=dict(self._options),
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; the splits are described in the documentation."""
        if split not in _SPLITS:
            raise unknown_name(f"{self.name} split", split, _SPLITS)
        return _tasks(split, self._style, self._max_path, self._only)

    def traits(self, task: Task) -> TaskTraits:
        """Kind: the name of a named layout, else whether there is a ``loop`` or the maze is a ``tree``.

        Size: the free cells.  Difficulty: the moves from start to goal.
        """
        layout, start = _find(task)
        kind = layout.name if layout.name in NAMED else "loop" if has_loop(layout.free) else "tree"
        return TaskTraits(kind, size=len(layout.free), difficulty=layout.distances[start])

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds hints and an example."""
        return CONCISE if style == "concise" else FULL

    def reset(self, task: Task) -> str:
        """Open a task such as ``double_t/3``, ``random/1234``, or trip 56 of a maze, ``random-1234/56``."""
        layout, start = _find(task)
        return self.open(layout, start)

    def open(self, layout: Layout, start: Cell) -> str:
        """Begin an episode in ``layout`` at ``start``; return the first observation."""
        self._layout = layout
        self._place = board(layout)[start]
        self._steps = 0
        return self._place.observation

    def step(self, action: str) -> StepResult:
        """Make a move; anything but the four actions, and a move into a wall, stays on the spot."""
        place = self._place
        if place is None:
            raise EnvironmentFault("maze: there is no open episode to step", "call reset with a task first")
        if self._steps >= STEP_CAP:
            self._place = None
            return TIMEOUT
        self._steps += 1
        move = action if self._parity else meant(action, ACTIONS)
        if move is None:
            return StepResult(f"{shown(action)} is no action. {_CHOICES} {place.observation}", 0.0, False)
        place = place.exits.get(move, place)
        result = place.result
        self._place = None if result.done else place
        return result

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """See :mod:`fedse.environments.maze.review`."""
        return review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """See :mod:`fedse.environments.maze.review`."""
        return offers(turns)

    def expert(self, seed: int) -> Expert:
        """A planner that knows the map and arrives within the turn limit."""
        return MazeExpert(self._layout, MAX_TURNS - self._steps, seed)


def _find(task: Task) -> tuple[Layout, Cell]:
    """The layout and start cell of a task."""
    name, _, text = task.id.partition("/")
    number = task_number(text)
    if task.environment == Maze.name and number is not None:
        if name in STYLES and number < _MAZES:
            layout = generated(number, name)
            return layout, layout.starts[0]
        if trip := _trip(name, number):
            return trip, trip.starts[0]
        if name in NAMED and number < len(NAMED[name].starts):
            return NAMED[name], NAMED[name].starts[number]
    raise EnvironmentFault(
        f"maze: there is no task {task}",
        f"task ids are {', '.join(f'{layout.name}/0 to {len(layout.starts) - 1}' for layout in NAMED.values())}"
        f" and {', '.join(f'{style}/0 to {_MAZES - 1}' for style in STYLES)}, and trips, as random-7/0",
    )


def _trip(name: str, index: int) -> Layout | None:
    style, _, text = name.partition("-")
    number = task_number(text)
    if style not in STYLES or number is None or number >= _MAZES:
        return None
    places = trips(number, style)
    return places[index] if index < len(places) else None


def _within_limit(layout: Layout) -> list[str]:
    return [
        f"{layout.name}/{number}" for number, start in enumerate(layout.starts) if layout.distances[start] <= MAX_TURNS
    ]


def _train_ids(style: str) -> list[str]:
    return [f"{style}/{number}" for number in range(TRAIN_MAZES)]


def _test_ids(style: str) -> list[str]:
    """Held-out generated mazes.

    Among those in the style of ``double_t``, its starts are evenly mixed, so that a beginning of up to 200 tasks is a
    fair sample of both.
    """
    unseen = [f"{style}/{number}" for number in range(TRAIN_MAZES, TRAIN_MAZES + TEST_MAZES)]
    if style != DEFAULT_STYLE:
        return unseen
    starts = len(DOUBLE_T.starts)
    # 7 is coprime to 25: consecutive picks lie far apart in the maze.
    benchmark = [f"double_t/{pick * 7 % starts}" for pick in range(starts)]
    mixed = []
    for position in range(starts + TEST_MAZES):
        mixed.append((benchmark if benchmark and position % _TEST_PERIOD == 0 else unseen).pop(0))
    return mixed


def _benchmark_test_ids(_: str) -> list[str]:
    return [f"double_t/{game}" for game in range(len(DOUBLE_T.starts))]


#: Split → how to make it, given the style of generated mazes.
_SPLITS: Mapping[str, Callable[[str], Sequence[str]]] = {
    "train": _train_ids,
    "test": _test_ids,
    "paper-train": lambda style: _train_ids(style)[:_PAPER_TRAIN],
    "paper-test": _benchmark_test_ids,
    "benchmark-train": lambda _: [f"double_t/{game}" for game in TRAJECTORY_GAMES],
    "benchmark-test": _benchmark_test_ids,
    "t": lambda _: _within_limit(NAMED["t"]),
    "u": lambda _: _within_limit(NAMED["u"]),
}


@functools.cache
def _tasks(split: str, style: str, max_path: int, only: int | None) -> Sequence[Task]:
    if only is not None and split in ("train", "test"):
        ids = trip_ids(only, style, held_out=split == "test")
    else:
        ids = _SPLITS[split](style)
    tasks = tuple(Task(Maze.name, name) for name in ids)
    if max_path == LONGEST_PATH:
        return tasks
    found = ((task, *_find(task)) for task in tasks)
    return tuple(task for task, layout, start in found if layout.distances[start] <= max_path)
