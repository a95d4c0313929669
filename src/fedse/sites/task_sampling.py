"""Which tasks a client explores in which round."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.seeding import python_random
from fedse.types import Task


def exploration_tasks(tasks: Sequence[Task], count: int, round: int, *, seed: int) -> list[Task]:
    """The tasks of a round: a window of an endless row of shuffles of all tasks.

    So tasks are drawn without replacement until all have been drawn, across rounds, and then anew in another order.  A
    pure function: a resumed run draws what the uninterrupted one would have drawn.

    Args:
        tasks: the training split, not empty.
        count: tasks in each round.
        round: 1 or later.
        seed: of the client's row.
    """
    shuffles: dict[int, list[Task]] = {}
    drawn = []
    for position in range((round - 1) * count, round * count):
        number, index = divmod(position, len(tasks))
        if number not in shuffles:
            shuffles[number] = list(tasks)
            python_random(seed, "shuffle", number).shuffle(shuffles[number])
        drawn.append(shuffles[number][index])
    return drawn
