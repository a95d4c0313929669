"""A BabyAI world in play: MiniGrid's mechanics on bytes.

MiniGrid makes the worlds; playing them here instead of there makes a step many times faster and a copy free, which the
expert needs to try actions out.  A test plays both side by side on all levels.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.missions import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE, Clause, Progress, Status

#: Side of the square that an agent sees; it stands in the middle of the nearest row.
VIEW = 7
_HALF = VIEW // 2
#: Position of the agent's own cell in a view.
OWN = _HALF
#: Cells of outer wall around a world, so that no row of a view leaves the bytes or enters another row.
MARGIN = VIEW - 1
#: Headings in clockwise order; 0 is to the right.
HEADINGS = 4

#: A position and a heading.
Pose = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """How a world is at the beginning."""

    #: level, seed: what MiniGrid made it from
    level: str
    seed: int
    mission: str  #: the goal in words
    clause: Clause  #: the goal as a condition
    max_steps: int  #: primitive steps that the level grants
    width: int  #: cells in a row, without the margins
    codes: bytes  #: cell → code, row by row, margins included
    looks: tuple[int, ...]  #: thing → its code (of a door: at the beginning)
    things: Mapping[int, int]  #: cell → thing
    places: Mapping[int, int]  #: thing → cell, as the mission first knows them
    #: position, heading: of the agent
    position: int
    heading: int
    carried: int | None  #: the thing that it carries

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Heading → what a step that way adds to a cell's number."""
        stride = self.width + 2 * MARGIN
        return (1, stride, -1, -stride)

    def distance(self, thing: int) -> int:
        """Cells from the agent to a thing along rows and columns, whatever is between."""
        stride = self.width + 2 * MARGIN
        (row, column), (its_row, its_column) = divmod(self.position, stride), divmod(self.places[thing], stride)
        return abs(row - its_row) + abs(column - its_column)


class World:
    """A scene in play.

    Everything that changes is replaced and never changed in place, so that :meth:`copy` copies references only.

    Attributes:
        scene: how it began.
        codes, things, places, position, heading, carried: as in :class:`Scene`; ``places`` is brought up to date only
            when something is put down, because MiniGrid's missions know places as of then.
        progress: what the mission remembers.
        status: what the last step did to the mission.
        taken: the primitive steps so far.
    """

    __slots__ = (
        "_steps",
        "carried",
        "codes",
        "heading",
        "places",
        "position",
        "progress",
        "scene",
        "status",
        "taken",
        "things",
    )

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.codes = scene.codes
        self.things = scene.things
        self.places = scene.places
        self.position = scene.position
        self.heading = scene.heading
        self.carried = scene.carried
        self.progress: Progress = scene.clause.start
        self.status = Status.CONTINUE
        self.taken: tuple[int, ...] = ()
        self._steps = scene.steps

    def copy(self) -> World:
        """A world that goes on from here on its own."""
        twin = World.__new__(World)
        for name in World.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    @property
    def ahead(self) -> int:
        """The cell in front of the agent."""
        return self.position + self._steps[self.heading]

    @property
    def pose(self) -> Pose:
        """Position and heading."""
        return self.position, self.heading

    @property
    def arrangement(self) -> Hashable:
        """All else that matters from now on: the cells, what is carried, how far the mission is."""
        return self.codes, self.carried, self.progress

    @property
    def state(self) -> Hashable:
        """All that matters from now on, but for the steps taken."""
        return self.pose, self.arrangement

    @property
    def carried_code(self) -> int:
        """Code of the carried thing; ``EMPTY`` for none."""
        return cells.EMPTY if self.carried is None else self.scene.looks[self.carried]

    @property
    def reward(self) -> float:
        """What success at this step is worth: 1 at the beginning, 0.1 at the last granted step, less afterwards."""
        return 1 - 0.9 * (len(self.taken) / self.scene.max_steps)

    @property
    def time_up(self) -> bool:
        """Whether all granted steps are taken."""
        return len(self.taken) >= self.scene.max_steps

    @property
    def over(self) -> bool:
        """Whether the mission is accomplished or has failed, or the time is up."""
        return self.status is not Status.CONTINUE or self.time_up

    def act(self, action: int) -> None:
        """Take a primitive step: turn, move, pick up, drop, or use a door.

        Boxes cannot be opened: no action in words does that.
        """
        self.taken += (action,)
        ahead = self.ahead
        code = self.codes[ahead]
        if action == LEFT:
            self.heading = (self.heading - 1) % HEADINGS
        elif action == RIGHT:
            self.heading = (self.heading + 1) % HEADINGS
        elif action == FORWARD:
            if code == cells.EMPTY or code in cells.OPEN:
                self.position = ahead
        elif action == PICKUP:
            if self.carried is None and code in cells.PORTABLE:
                things = dict(self.things)
                self.carried = things.pop(ahead)
                self.things = things
                self._set(ahead, cells.EMPTY)
        elif action == DROP:
            if self.carried is not None and code == cells.EMPTY:
                self._set(ahead, self.carried_code)
                self.things = {**self.things, ahead: self.carried}
                self.carried = None
            self.places = {thing: cell for cell, thing in self.things.items()}
        elif action == TOGGLE and code in cells.DOORS:
            self._set(ahead, cells.toggled(code, self.carried_code))
        self.progress, self.status = self.scene.clause.verify(self.progress, action, self)

    def run(self, path: Iterable[int], *, run_on: bool = False) -> None:
        """Take primitive steps until one changes nothing that the agent sees.

        Args:
            path: the steps.
            run_on: do not stop where the mission or the granted steps end, like the original.
        """
        view = self.view()
        for action in path:
            self.act(action)
            before, view = view, self.view()
            if view == before or (self.over and not run_on):
                break

    def _set(self, cell: int, code: int) -> None:
        self.codes = self.codes[:cell] + bytes((code,)) + self.codes[cell + 1 :]

    def view(self) -> bytes:
        """What the agent sees: 7 rows of 7 codes, the nearest row first, each from left to right.

        The agent's own cell shows what it carries, as in MiniGrid.
        """
        forward, right = self._steps[self.heading], self._steps[(self.heading + 1) % HEADINGS]
        start = self.position - _HALF * right
        light = 1 << _HALF
        rows = []
        for _ in range(VIEW):
            row = self.codes[start : start + VIEW * right : right]
            lit, light = _spread(row.translate(cells.OPAQUE), light)
            rows.append(_shown(row, lit))
            start += forward
        seen = b"".join(rows)
        return seen[:OWN] + bytes((self.carried_code,)) + seen[OWN + 1 :]

    def seen_cells(self) -> list[int]:
        """The cells that the agent sees, its own included."""
        forward, right = self._steps[self.heading], self._steps[(self.heading + 1) % HEADINGS]
        return [
            self.position + place // VIEW * forward + (place % VIEW - _HALF) * right
            for place, code in enumerate(self.view())
            if code != cells.UNSEEN
        ]


@functools.cache
def _spread(opaque: bytes, light: int) -> tuple[int, int]:
    """How sight spreads through a row and into the next one, as bit sets (bit 0 is the leftmost cell).

    MiniGrid sweeps a row from left to right and back.  A cell that is seen and not opaque shows its neighbour in the
    direction of the sweep, and the two cells behind these.
    """
    onward = 0
    for cells_in_order, step in ((range(VIEW - 1), 1), (range(VIEW - 1, 0, -1), -1)):
        for cell in cells_in_order:
            if light >> cell & 1 and not opaque[cell]:
                light |= 1 << cell + step
                onward |= 1 << cell + step | 1 << cell
    return light, onward


@functools.cache
def _mask(lit: int) -> int:
    """Bit set of seen cells → bytes of 255 where it has a 1, as a number."""
    return int.from_bytes(bytes(255 * (lit >> cell & 1) for cell in range(VIEW)))


_ALL = (1 << VIEW) - 1


def _shown(row: bytes, lit: int) -> bytes:
    """A row with ``UNSEEN`` where it is dark."""
    if lit == _ALL:
        return row
    return (int.from_bytes(row) & _mask(lit)).to_bytes(VIEW)
