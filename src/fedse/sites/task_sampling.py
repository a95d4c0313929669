"""Which tasks a client explores in which round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    all tasks, with as many attempts at each.  So tasks are drawn without replacement until all have been drawn, across
    rounds, and then anew in another order.  A pure function: a resumed run draws what the uninterrupted one would have
    drawn.

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
    stride = -(-count // attempts)
    shuffles: dict[int, list[Task]] = {}
    fresh: list[Task] = []
    for position in range((round - 1) * stride, round * stride):
        number, index = divmod(position, len(tasks))
        if number not in shuffles:
            shuffles[number] = list(tasks)
            python_random(seed, "shuffle", number).shuffle(shuffles[number])
        fresh.append(shuffles[number][index])
    chosen = [*again, *(task for task in fresh if task not in again)]
    return [task for task in chosen for _ in range(attempts)][:count]
