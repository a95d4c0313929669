"""What a client's update must be before it is aggregated.

Averaging libraries broadcast mismatched shapes in silence, pass NaN on, and divide by a zero sum of weights; every
update is therefore checked here, in full, before aggregation.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from fedse.adapters.checks import finite_problems, in_words, meta_problems, shape_problems
from fedse.adapters.state import AdapterState
from fedse.errors import UpdateRejectedError
from fedse.messages.update import ClientUpdate


def scalar_problems(update: ClientUpdate, needs: Collection[str]) -> list[str]:
    """Scalars that are missing, were not asked for, or are no finite numbers ≥ 0."""
    found = update.scalars
    problems = [f"scalar {name!r} is missing" for name in sorted(set(needs) - found.keys())]
    problems += [f"scalar {name!r} was not asked for" for name in sorted(found.keys() - set(needs))]
    for name in sorted(found.keys() & set(needs)):
        if not math.isfinite(found[name]) or found[name] < 0:
            problems.append(f"scalar {name!r} is {found[name]}, not a finite number ≥ 0")
    return problems


def validate_update(update: ClientUpdate, *, round: int, global_: AdapterState, needs: Collection[str]) -> None:
    """Check one update against the round it answers and the adapter that was broadcast.

    Args:
        update: what the client sent.
        round: the round in progress.
        global_: the broadcast adapter; the update must agree with it in rank, alpha, targets, base, names and shapes.
        needs: the scalars that the aggregator declares; exactly these must be present, finite and ≥ 0.

    Raises:
        UpdateRejectedError: naming the client and the first problems.
    """
    problems = []
    if update.round != round:
        problems.append(f"it answers round {update.round}, but round {round} is in progress")
    problems += meta_problems(update.adapter.meta, global_.meta)
    problems += shape_problems(update.adapter, global_)
    problems += finite_problems(update.adapter)
    problems += scalar_problems(update, needs)
    if problems:
        raise UpdateRejectedError(
            f"the update of client {update.client!r} is rejected: {in_words(problems)}",
            "let the client train on the adapter broadcast for this round and send exactly what the aggregator needs",
        )
