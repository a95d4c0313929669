"""The episode slots of a server: opened, stepped, closed, and given up when nobody comes back to them."""

from __future__ import annotations

import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from fedse.environments.agentgym.counterpart import Session, counterpart_of, finished
from fedse.environments.agentgym.dialects import Dialect
from fedse.environments.base import Environment
from fedse.environments.serving import Limits
from fedse.errors import ConfigError, EnvironmentFault, boundary

_log = logging.getLogger(__name__)


class SlotsFullError(Exception):
    """All slots are taken by episodes that are in use."""


class SlotError(Exception):
    """There is no such slot; the message is the original servers'."""


class Slot:
    """An episode slot, with what a server tells about it beside the steps."""

    def __init__(self, number: int, session: Session, dialect: Dialect, left_out: Collection[int] = ()) -> None:
        self.number = number
        self.session = session
        self.used = 0.0
        self._dialect = dialect
        self._left_out = left_out
        self._task: int | None = None
        self._goal = ""
        self._payload: dict[str, Any] | None = None
        self._sum: float = 0

    def reset(self, task: int) -> dict[str, Any]:
        """The session's payload for a reset to a task."""
        if task in self._left_out:
            return {"error": f"The options of this server leave out the task {task}."}
        payload: dict[str, Any] = self._guarded("reset", lambda: self.session.reset(**{self._dialect.number: task}))
        if "error" not in payload:
            self._task, self._sum = task, 0
            self._goal = str(payload["observation"]).partition("\n")[0]
            self._payload = {"observation": payload["observation"], "reward": 0, "done": False}
        return payload

    def step(self, action: str) -> dict[str, Any]:
        """The session's payload for a step."""
        payload: dict[str, Any] = self._guarded("step", lambda: self.session.step(action))
        if "error" not in payload:
            self._payload = {**payload, "observation": payload[self._dialect.observation]}
            self._sum += payload["reward"]
        return payload

    def observation(self) -> Any:
        """Answer to ``GET …/observation``."""
        if (payload := self._shown()) is None:
            return self._silent()
        if self._dialect.observations != "payload":
            return payload["observation"]
        opening = payload["observation"].startswith(self._goal)
        text = payload["observation"] if opening else f"{self._goal}\n{payload['observation']}"
        return {"score": 0, **payload, "observation": text, "deleted": False}

    def detail(self) -> dict[str, Any]:
        """Answer to ``GET …/detail``."""
        if (payload := self._shown()) is None:
            return self._silent()
        extra = {
            field: self._task if value is None else value for field, value in (self._dialect.details or {}).items()
        }
        reward = self._sum if self._dialect.sums_rewards else payload["reward"]
        known = {"observation": payload["observation"], "done": payload["done"], "reward": reward, "deleted": False}
        return extra | known

    def query(self, name: str) -> Any:
        """Answer to ``GET`` of a path of the session's own."""
        return self._guarded(name, getattr(self.session, name))

    def close(self) -> None:
        """Free what the session holds."""
        self.session.close()

    def _shown(self) -> dict[str, Any] | None:
        if self._payload is None or (self._payload["done"] and self._dialect.observations == "until the end"):
            return None
        return self._payload

    def _silent(self) -> dict[str, Any]:
        if self._payload is None:
            return {"error": f"There is no open episode in environment {self.number}: reset it first."}
        return finished(self.number)

    def _guarded(self, what: str, call: Callable[[], Any]) -> Any:
        # As in the original, whatever breaks in an environment is an answer, and the server lives on.
        try:
            with boundary(EnvironmentFault, f"{what} failed in environment {self.number}"):
                return call()
        except EnvironmentFault as fault:
            if fault.__cause__ is not None:
                _log.error("%s", fault.what, exc_info=fault.__cause__)
            return {"error": fault.what}


class SlotTable:
    """All open slots of a server.

    Args:
        environment: what is served, with its options.
        dialect: how it is served.
        limits: how many slots there may be, and how long they may idle.
        clock: seconds that only grow.

    Raises:
        ConfigError: if an option of the environment would have no effect.
    """

    def __init__(
        self, environment: Environment, dialect: Dialect, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counterpart = counterpart_of(environment)
        own = inspect.signature(type(environment)).parameters
        idle = [
            option for option in self._counterpart.unspoken if environment.spec.options[option] != own[option].default
        ]
        if idle:
            raise ConfigError(
                f"{environment.name}: {', '.join(idle)} would change nothing in AgentGym's protocol, which has no such "
                "tasks",
                "serve it with --protocol openenv, or leave the option out",
            )
        self._dialect = dialect
        self._limits = limits
        self._clock = clock
        self._next = 0
        #: In order of last use, so that those to expire are found at once.
        self._open: OrderedDict[int, Slot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def numbers(self) -> list[int]:
        """The numbers of all open slots, ascending."""
        self._expire()
        return sorted(self._open)

    def create(self) -> Slot:
        """A new slot.

        Raises:
            SlotsFullError: if there may be no more.
            EnvironmentFault: if the environment cannot be brought up.
        """
        self._expire()
        if len(self._open) >= self._limits.episodes:
            raise SlotsFullError
        number = self._next
        with boundary(EnvironmentFault, f"environment {number} could not be created"):
            slot = Slot(number, self._counterpart.session(number), self._dialect, self._counterpart.left_out)
        self._next += 1
        slot.used = self._clock()
        self._open[number] = slot
        return slot

    def get(self, number: int) -> Slot:
        """An open slot, which counts as used now.

        Raises:
            SlotError: if it was never opened, or is closed.
        """
        self._expire()
        slot = self._open.get(number)
        if slot is None:
            gone = 0 <= number < self._next
            raise SlotError(
                f"The task with environment {number} has been deleted." if gone else f"The id {number} is not valid."
            )
        slot.used = self._clock()
        self._open.move_to_end(number)
        return slot

    def close(self, number: int) -> bool:
        """Close a slot; whether it was open."""
        self._expire()
        slot = self._open.pop(number, None)
        if slot is not None:
            slot.close()
        return slot is not None

    def _expire(self) -> None:
        deadline = self._clock() - self._limits.idle_seconds
        while self._open:
            number, oldest = next(iter(self._open.items()))
            if oldest.used > deadline:
                return
            del self._open[number]
            oldest.close()
