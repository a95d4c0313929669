"""Which tasks a client explores in which round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from fedse.experience.credit import Outcomes
from fedse.seeding import python_random
from fedse.types import Task


def exploration_tasks(
    tasks: Sequence[Task],
    count: int,
    round: int,
    *,
    seed: int,
    attempts: int = 1,
    before: Mapping[Task, Outcomes] | None = None,
) -> list[Task]:
    """The tasks of a round, each as often as it is attempted.

    Half of the episodes at most go to tasks that were won sometimes in the round before, ``attempts`` each: there the
    attempts differ, and so teach what makes the difference.  The others are a window of an endless row of shuffles of
    all tasks, with as many attempts at each; several attempts are at different tasks while there are enough.  So tasks
    are drawn without replacement until all have been drawn, across rounds, and then anew in another order.  A pure
    function: a resumed run draws what the uninterrupted one would have drawn.

    Args:
        tasks: the training split, not empty.
        count: episodes in each round.
        round: 1 or later.
        seed: of the client's row.
        attempts: at each task.
        before: what came of the round before.
    """
    again: list[Task] = []
    if attempts > 1:
        contested = sorted(
            (abs(2 * found.wins - found.attempts) / found.attempts, str(task), task)
            for task, found in (before or {}).items()
            if 0 < found.wins < found.attempts
        )
        again = [task for _, _, task in contested[: count // 2 // attempts]]
    places = -(-count // attempts)
    row = _row(tasks, seed, start=(round - 1) * places)
    if attempts == 1 or places > len(tasks):
        chosen = again + list(islice(row, places - len(again)))
    else:
        chosen = list(again)
        while len(chosen) < places:
            task = next(row)
            if task not in chosen:
                chosen.append(task)
    return [task for task in chosen for _ in range(attempts)][:count]


def _row(tasks: Sequence[Task], seed: int, *, start: int) -> Iterator[Task]:
    """The endless row of shuffles from a place on."""
    number, index = divmod(start, len(tasks))
    while True:
        shuffled = list(tasks)
        python_random(seed, "shuffle", number).shuffle(shuffled)
        yield from shuffled[index:]
        number, index = number + 1, 0
