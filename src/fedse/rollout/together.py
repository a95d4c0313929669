"""Work that stops where it wants to play, so that what plays with the same adapter plays together.

A site's work is a coroutine: it awaits :class:`Wanted` where it plays.  :func:`together` takes several, plays what they
want in one batch per adapter, and lets each go on with its own episodes.  There is no event loop and no thread: between
two plays one work runs at a time, in the order in which they were given.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator, Iterator, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fedse.adapters.state import AdapterState
from fedse.errors import FedseError
from fedse.processes import give_back_freed_memory
from fedse.rollout.player import Play, Player
from fedse.types import Trajectory

_T = TypeVar("_T")
_others: ContextVar[float] = ContextVar("seconds that went to other works", default=0.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Episodes that a work wants played; awaiting it gives the trajectories, in the order of the requests.

    Attributes:
        adapter: plays; ``None`` is the bare base model.
        play: what, and how.

    Raises:
        FedseError: what the player raises.
    """

    adapter: AdapterState | None
    play: Play

    def __await__(self) -> Generator[list[Wanted], list[_Played], list[Trajectory]]:
        stopped = time.monotonic()
        [played] = yield [self]
        _others.set(_others.get() + time.monotonic() - stopped - played.seconds)
        if played.error is not None:
            raise played.error
        return played.trajectories


class Pause:
    """Awaiting it lets the other works come as far as this one."""

    def __await__(self) -> Generator[list[Wanted], list[_Played], None]:
        stopped = time.monotonic()
        yield []
        _others.set(_others.get() + time.monotonic() - stopped)


@dataclass(slots=True)
class _Played:
    """What came of a want, and its share of the seconds of its batch."""

    trajectories: list[Trajectory] = field(default_factory=list)
    seconds: float = 0.0
    error: FedseError | None = None


#: A part of a site's work.
Work = Coroutine[Any, Any, _T]


def own_seconds() -> float:
    """A clock for the work that asks: it stands still while others go on, and counts a share of common plays."""
    return time.monotonic() - _others.get()


def together(player: Player, works: Sequence[Work[_T]]) -> Iterator[tuple[int, _T]]:
    """Do all works; in turns, and what they play with the same adapter in one batch.

    Args:
        player: plays.
        works: not begun yet.

    Yields:
        (index of a work, what it returned), as they end.

    Raises:
        Exception: what a work raises; the others are ended where they are.
    """
    steps = _steps(works)
    answer: list[_Played] | None = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, tuple):
                yield step
            else:
                answer = _play(player, step)
    except StopIteration:
        return
    finally:
        steps.close()


def alone(player: Player, work: Work[_T]) -> _T:
    """Do one work; see :func:`together`."""
    [(_, result)] = together(player, [work])
    return result


@dataclass(frozen=True)
class SideBySide(Generic[_T]):
    """Works that are parts of one: awaiting it gives their results, and what they want is wanted at the same time."""

    works: Sequence[Work[_T]]

    def __await__(self) -> Generator[list[Wanted], list[_Played], list[_T]]:
        found: dict[int, _T] = {}
        steps = _steps(self.works)
        answer: list[_Played] | None = None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, tuple):
                    found[step[0]] = step[1]
                else:
                    answer = yield step
        except StopIteration:
            return [found[index] for index in range(len(self.works))]
        finally:
            steps.close()


def _steps(works: Sequence[Work[_T]]) -> Generator[tuple[int, _T] | list[Wanted], list[_Played] | None, None]:
    """Run each work up to its next want, again and again; yields results, and wants that are then to be answered."""
    contexts = [copy_context() for _ in works]
    answers: list[list[_Played] | None] = [None] * len(works)
    going = list(range(len(works)))
    try:
        while going:
            wants: dict[int, list[Wanted]] = {}
            for index in list(going):
                try:
                    wants[index] = contexts[index].run(works[index].send, answers[index])
                except StopIteration as end:
                    going.remove(index)
                    yield index, end.value
            if going:
                played = iter((yield [want for index in going for want in wants[index]]) or ())
                for index in going:
                    answers[index] = [next(played) for _ in wants[index]]
    finally:
        for work in works:
            work.close()


def _play(player: Player, wants: Sequence[Wanted]) -> list[_Played]:
    """Play what is wanted, in a batch for each adapter."""
    played = [_Played() for _ in wants]
    batches: dict[str, list[int]] = {}
    for index, want in enumerate(wants):
        batches.setdefault(want.adapter.digest if want.adapter else "", []).append(index)
    for batch in batches.values():
        give_back_freed_memory()
        began = time.monotonic()
        try:
            found = player.play(wants[batch[0]].adapter, [wants[index].play for index in batch])
        except FedseError as error:
            for index in batch:
                played[index].error = error
            continue
        seconds = time.monotonic() - began
        tokens = [sum(len(one.tokens.ids) for one in own if one.tokens) for own in found]
        for index, own, count in zip(batch, found, tokens, strict=True):
            share = count / sum(tokens) if any(tokens) else 1 / len(batch)
            played[index] = _Played(own, seconds * share)
    give_back_freed_memory()
    return played
