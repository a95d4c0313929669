"""The protocol for environments that AgentGym does not have: tasks by position, payloads of the plainest kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedse.environments.base import AgentGymSession, Environment
from fedse.environments.registry import make
from fedse.errors import EnvironmentFault
from fedse.types import Task


def numbered_tasks(environment: Environment) -> Mapping[str, Mapping[int, Task]]:
    """Split → number under which a server opens a task → the task.

    AgentGym's numbers where it has the environment; else positions, counted through all splits in order.
    """
    try:
        return environment.agentgym_tasks()
    except NotImplementedError:
        numbered: dict[str, Mapping[int, Task]] = {}
        first = 0
        for split in environment.spec.splits:
            numbered[split] = dict(enumerate(environment.tasks(split), start=first))
            first += len(numbered[split])
        return numbered


def session_of(environment: Environment, slot: int) -> AgentGymSession:
    """A session under the options of ``environment``, which itself stays as it is."""
    try:
        return environment.agentgym(slot)
    except NotImplementedError:
        return PlainSession(environment, slot)


class PlainSession:
    """A slot of a server for an environment that AgentGym does not have.

    Args:
        environment: which environment, and its options; the session plays on an instance of its own.
        slot: the slot's number, quoted in error messages.
    """

    def __init__(self, environment: Environment, slot: int) -> None:
        self._environment = make(environment.name, **environment.spec.options)
        self._tasks = {number: task for tasks in numbered_tasks(environment).values() for number, task in tasks.items()}
        self._slot = slot
        self._done = False

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``; takes ``data_idx``, the position of a task."""
        number: int = kwargs["data_idx"]
        if number not in self._tasks:
            return {"error": f"There is no task {number}: they are numbered 0 to {len(self._tasks) - 1}."}
        observation = self._environment.reset(self._tasks[number])
        self._done = False
        return {"id": self._slot, "observation": observation, "done": False, "reward": 0}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``."""
        if self._done:
            return {"error": f"The task with environment {self._slot} has finished."}
        try:
            result = self._environment.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._done = result.done
        return {"observation": result.observation, "reward": result.reward, "done": result.done}

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()
