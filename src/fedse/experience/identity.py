"""When two episodes are the same, so that a site learns from one of them only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from fedse.types import Trajectory

#: Gives episodes that count as the same the same text.
Identity = Callable[[Trajectory], str]


def task_and_actions(trajectory: Trajectory) -> str:
    """Same task, same actions; what the agent thought does not matter."""
    task = trajectory.task
    payload = json.dumps([task.environment, task.id, *trajectory.actions], ensure_ascii=False)
    return hashlib.sha256(payload.encode()).hexdigest()[:32]
