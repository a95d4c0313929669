"""What a mission asks for, and when it is done: MiniGrid's verifier as pure functions of a world.

A clause is immutable.  What it has to remember between steps is a small hashable value, its progress, which the world
keeps; so a world can be copied and compared at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fedse.environments.babyai import cells

if TYPE_CHECKING:
    from fedse.environments.babyai.world import World

#: The primitive actions, numbered as in MiniGrid.
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)

#: What a clause remembers; every clause knows its own form.
Progress = Any


class Status(Enum):
    """What a step did to a mission."""

    CONTINUE = 0
    SUCCESS = 1
    FAILURE = 2


class Clause(Protocol):
    """An instruction or a combination of instructions."""

    @property
    def start(self) -> Progress:
        """The progress before the first step."""

    @property
    def errands(self) -> tuple[Errand, ...]:
        """The single instructions in it."""

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """Progress and status after the primitive ``action`` led to ``world``."""

    def current(self, progress: Progress) -> Errand:
        """The single instruction that is to be carried out next."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What single instructions have in common."""

    text: str  #: the instruction in words
    targets: frozenset[int]  #: the things that it is about; one of them is enough
    start: ClassVar[None] = None
    kind: ClassVar[str]  #: what sort of instruction it is

    @property
    def errands(self) -> tuple[Errand, ...]:
        """See :class:`Clause`."""
        return (self,)

    def current(self, progress: Progress) -> Errand:  # noqa: ARG002
        """See :class:`Clause`."""
        return self

    def wanted(self, carried: int | None) -> frozenset[int]:  # noqa: ARG002
        """The things to look for while ``carried`` is in hand."""
        return self.targets


@dataclass(frozen=True, slots=True)
class GoTo(Errand):
    """Face one of some things from next to it."""

    kind: ClassVar[str] = "go to"

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:  # noqa: ARG002
        """See :class:`Clause`.  Where a thing was before it was picked up counts until something is put down."""
        ahead = world.ahead
        reached = any(world.places.get(target) == ahead for target in self.targets)
        return progress, Status.SUCCESS if reached else Status.CONTINUE


@dataclass(frozen=True, slots=True)
class Open(Errand):
    """Open one of some doors; if ``strict``, the use of any other door fails."""

    kind: ClassVar[str] = "open"
    strict: bool

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """See :class:`Clause`."""
        status, code = Status.CONTINUE, world.codes[world.ahead]
        if action == TOGGLE and code in cells.DOORS:
            if code in cells.OPEN and world.things[world.ahead] in self.targets:
                status = Status.SUCCESS
            elif self.strict:
                status = Status.FAILURE
        return progress, status


@dataclass(frozen=True, slots=True)
class PickUp(Errand):
    """Pick up one of some things; if ``strict``, picking up anything else fails.  Progress: what was carried before."""

    kind: ClassVar[str] = "pick up"
    strict: bool

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """See :class:`Clause`."""
        status = Status.CONTINUE
        if action == PICKUP and world.carried is not None:
            if progress is None and world.carried in self.targets:
                status = Status.SUCCESS
            elif self.strict:
                status = Status.FAILURE
        return world.carried, status


@dataclass(frozen=True, slots=True)
class PutNext(Errand):
    """Put one of some things next to one of ``others``.  Progress: what was carried before."""

    kind: ClassVar[str] = "put next"
    others: frozenset[int]

    def wanted(self, carried: int | None) -> frozenset[int]:
        """See :class:`Errand`."""
        return self.others if carried in self.targets else self.targets

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """See :class:`Clause`."""
        status = Status.CONTINUE
        if action == DROP and progress in self.targets and world.carried is None:
            around = [world.ahead + step for step in world.scene.steps]
            if any(world.places.get(target) in around for target in self.others):
                status = Status.SUCCESS
        return world.carried, status


@dataclass(frozen=True, slots=True)
class Pair:
    """What combinations of two clauses have in common.  Progress: of both, and whether the first is done."""

    first: Clause
    second: Clause

    @property
    def errands(self) -> tuple[Errand, ...]:
        """See :class:`Clause`."""
        return self.first.errands + self.second.errands

    def current(self, progress: Progress) -> Errand:
        """See :class:`Clause`."""
        first, second, first_done, *_ = progress
        return self.second.current(second) if first_done else self.first.current(first)


@dataclass(frozen=True, slots=True)
class Sequence(Pair):
    """Two clauses, the second of which counts once the first is done.  Progress: as in :class:`Pair`."""

    @property
    def start(self) -> Progress:
        """See :class:`Clause`."""
        return self.first.start, self.second.start, False

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """See :class:`Clause`.  One step may do both."""
        first, second, done = progress
        if not done:
            first, status = self.first.verify(first, action, world)
            if status is not Status.SUCCESS:
                return (first, second, False), status
        second, status = self.second.verify(second, action, world)
        return (first, second, True), status


@dataclass(frozen=True, slots=True)
class Both(Pair):
    """Two clauses in any order.  Progress: of both, and which are done."""

    @property
    def start(self) -> Progress:
        """See :class:`Clause`."""
        return self.first.start, self.second.start, False, False

    def verify(self, progress: Progress, action: int, world: World) -> tuple[Progress, Status]:
        """See :class:`Clause`.  As in MiniGrid, the failure of a part is not the failure of the whole."""
        first, second, first_done, second_done = progress
        if not first_done:
            first, status = self.first.verify(first, action, world)
            first_done = status is Status.SUCCESS
        if not second_done:
            second, status = self.second.verify(second, action, world)
            second_done = status is Status.SUCCESS
        done = first_done and second_done
        return (first, second, first_done, second_done), Status.SUCCESS if done else Status.CONTINUE
