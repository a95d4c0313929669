"""WebShop in AgentGym: tasks are indices of goals, and parts of it were recorded alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedse.environments.agentgym.counterpart import Counterpart
from fedse.environments.agentgym.sessions import Session
from fedse.environments.webshop.environment import WebShop
from fedse.environments.webshop.replaying import RecordedSession, recorded_reward
from fedse.environments.webshop.session import WebShopSession
from fedse.names import unknown_name
from fedse.types import Task


class WebShopCounterpart(Counterpart[WebShop]):
    """Numbers are indices of goals."""

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """All goals of the splits, whatever limits the environment sets to its own tasks."""
        splits = self.environment.shop.splits
        return {split: {index: self.task_of(index) for index in indices} for split, indices in splits.items()}

    def task_of(self, number: int) -> Task:
        """A number is the index of a goal."""
        return Task(self.environment.name, f"{self.environment.shop.name}/{number}")

    def session(self, slot: int = 0) -> Session:
        """See :class:`~fedse.environments.agentgym.counterpart.Counterpart`."""
        environment = self.environment
        return WebShopSession(environment.shop, environment.visit, slot, parity=self.options["parity"])

    def recorded_session(self, record: Mapping[str, Any]) -> Session:
        """The recorded catalogue lies beside the recording."""
        return RecordedSession(record)

    def recorded_case(self, part: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """The one recorded part is the ``reward``."""
        if part != "reward":
            raise unknown_name("recorded part of webshop", part, ["reward"])
        return recorded_reward(record)
