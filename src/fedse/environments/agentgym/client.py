"""A server that speaks AgentGym's protocol, as an environment.

``agentgym:http://host:port`` is its name, with the path ``/maze`` or ``/wordle`` where the server has one.  The rules,
limits and splits are those of our environment of the same kind, since servers do not tell them; what is played is the
server's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedse.environments.agentgym.connection import Connection
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.agentgym.dialects import dialect_of, greeted_name, prefixed_name
from fedse.environments.base import (
    Environment,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    TaskTraits,
    task_number,
)
from fedse.environments.registry import REMOTE, make
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.names import unknown_name
from fedse.types import Task


class AgentGymEnvironment(Environment):
    """Episodes on an AgentGym server.  A task's id is the number that the server knows it by.

    Args:
        timeout: seconds to wait for an answer.
        retries: how often a request is tried again, with growing pauses, when the server cannot be reached.
        local: options of our environment of the same kind, which gives rules, limits and splits.

    Raises:
        ConfigError: if the address or an option has a bad value.
        EnvironmentFault: if the server cannot be reached, or is of no kind known here.
    """

    def __init__(self, *, timeout: float = 60.0, retries: int = 4, local: Mapping[str, Any] | None = None) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
            raise ConfigError(f"{self.name}: timeout must be a number of seconds above 0, found {timeout!r}")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"{self.name}: retries must be a number from 0, found {retries!r}")
        if not isinstance(local, Mapping | None):
            raise ConfigError(f"{self.name}: local must hold options of the environment played, found {local!r}")
        self._options: dict[str, Any] = {"timeout": timeout, "retries": retries, "local": dict(local or {})}
        address = self.name.removeprefix(REMOTE)
        kind = prefixed_name(address) or _greeted(address, timeout, retries)
        self._dialect = dialect_of(kind)
        self._server = Connection(
            address.rstrip("/").removesuffix(self._dialect.prefix), timeout=timeout, retries=retries
        )
        self._local = _local(kind, self.name, self._options["local"])
        self._counterpart = counterpart_of(self._local)
        self._matched = False
        self._slot: int | None = None
        self._number: int | None = None
        self._first = ""

    @property
    def spec(self) -> EnvironmentSpec:
        """The spec of our environment of the same kind, under this one's name and options."""
        spec = self._local.spec
        splits = {split: len(tasks) for split, tasks in self._numbered.items()}
        return replace(spec, name=self.name, splits=splits, options=dict(self._options))

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; those of our splits that AgentGym has a number for."""
        if split not in self._numbered:
            raise unknown_name(f"{self.name} split", split, self._numbered)
        return [Task(self.name, str(number)) for number in self._numbered[split]]

    def traits(self, task: Task) -> TaskTraits:
        """Those of the same task here."""
        number = task_number(task.id)
        twin = None if number is None else self._counterpart.numbered.get(number)
        if task.environment != self.name or twin is None:
            raise EnvironmentFault(f"{self.name}: nothing is known of the task {task}", "take a task of a split")
        self._match()
        return self._local.traits(twin)

    def instruction(self, style: PromptStyle) -> str:
        """The rules; the server is asked for what they depend on."""
        self._match()
        return self._local.instruction(style)

    def reset(self, task: Task) -> str:
        """Open a task by its number; any number that the server knows is a task."""
        number = task_number(task.id)
        if task.environment != self.name or number is None:
            raise EnvironmentFault(f"{self.name}: there is no task {task}", "a task id is a number: 0, 1, 2, …")
        self._number = None
        if self._slot is None:
            self._slot = self._create()
        path = self._dialect.path("reset")
        answer = self._server.post(path, {self._dialect.slot: self._slot, self._dialect.number: number}, again=True)
        if self._dialect.bare and isinstance(answer, list) and answer:
            answer = {"observation": answer[0]}
        self._first = self._field(answer, "observation", str)
        self._number = number
        return self._first

    def step(self, action: str) -> StepResult:
        """Send an action.  It is never sent twice: an answer that does not come is a fault."""
        if self._number is None:
            raise EnvironmentFault(f"{self.name}: there is no open episode to step", "call reset with a task first")
        # Until it is answered nobody knows where the episode stands.
        number, self._number = self._number, None
        path = self._dialect.path("step")
        answer = self._server.post(path, {self._dialect.slot: self._slot, "action": action}, again=False)
        done = self._field(answer, "done", bool)
        observation = self._field(answer, self._dialect.observation, str)
        reward = float(self._field(answer, "reward", int | float))
        self._number = None if done else number
        return StepResult(observation, reward, done)

    def expert(self, seed: int) -> Expert:
        """The expert of our environment of the same kind, who plays the same episode here beside the server's.

        Raises:
            EnvironmentFault: if no episode is open, the task is in no split, or the server plays something else under
                its number, as it does with other words, products or recipes.
        """
        self._match()
        twin = None if self._number is None else self._counterpart.numbered.get(self._number)
        if twin is None:
            raise EnvironmentFault(f"{self.name}: there is no expert for this episode", "open a task of a split first")
        if self._local.reset(twin) != self._first:
            raise EnvironmentFault(
                f"{self.name}: there is no expert for task {self._number}: the server plays something else than "
                f"{twin} here",
                "give options of the local environment that fit the server's data, or do without demonstrations",
            )
        return _Beside(self._local, self._local.expert(seed), self._first)

    def close(self) -> None:
        """Close the slot on the server, if it answers and knows how to."""
        if self._slot is not None:
            self._farewell(self._slot)
        self._slot = self._number = None
        self._server.close()
        self._local.close()

    @functools.cached_property
    def _numbered(self) -> Mapping[str, Mapping[int, Task]]:
        return self._counterpart.tasks()

    def _create(self) -> int:
        # The original opens an episode at once, for which it may need a body; it ignores what the body says.
        answer = self._server.post(self._dialect.path("create"), {}, again=True)
        slot = answer if self._dialect.bare else self._field(answer, self._dialect.slot, int)
        if isinstance(slot, bool) or not isinstance(slot, int):
            raise EnvironmentFault(f"{self.name}: the server gave no slot but {str(slot)[:80]!r}", "check the address")
        return slot

    def _match(self) -> None:
        """Let our environment learn what it needs to know, from a slot that nothing was played in."""
        if self._matched:
            return
        opened: list[int] = []

        def ask(path: str) -> Any:
            if not opened:
                opened.append(self._create())
            return self._server.get(self._dialect.path(path), **{self._dialect.slot: opened[0]})

        try:
            self._counterpart.match(ask)
        finally:
            for slot in opened:
                self._farewell(slot)
        self._matched = True

    def _farewell(self, slot: int) -> None:
        self._server.farewell(self._dialect.path("close"), {self._dialect.slot: slot})

    def _field(self, answer: Any, name: str, kind: Any) -> Any:
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise EnvironmentFault(
                f"{self.name}: the server's answer has no {name}: {str(answer)[:200]}", "check the address"
            )
        return value


class _Beside:
    """Plays along in ``twin``, a local environment with the same task opened, on which its expert relies."""

    def __init__(self, twin: Environment, expert: Expert, observation: str) -> None:
        self._twin = twin
        self._expert = expert
        self._expected = observation

    def act(self, observation: str) -> tuple[str, str]:
        if observation != self._expected:
            raise EnvironmentFault(
                f"the server departs from our {self._twin.name}: it says {observation[:200]!r}, ours "
                f"{self._expected[:200]!r}",
                "do without demonstrations on this server",
            )
        thought, action = self._expert.act(observation)
        self._expected = self._twin.step(action).observation
        return thought, action


@functools.lru_cache(maxsize=64)
def remote_class(name: str) -> type[AgentGymEnvironment]:
    """The class of the environment with a name such as ``agentgym:http://127.0.0.1:8000``."""
    return type("AgentGymEnvironment", (AgentGymEnvironment,), {"name": name})


@functools.lru_cache(maxsize=64)
def _greeted(address: str, timeout: float, retries: int) -> str:
    """The kind of a server; asked once in a process, so that later a dead server is noticed in an episode only."""
    connection = Connection(address, timeout=timeout, retries=retries)
    return greeted_name(connection.get("/"), connection.address)


def _local(kind: str, name: str, options: Mapping[str, Any]) -> Environment:
    try:
        return make(kind, **options)
    except UnknownNameError as error:
        raise EnvironmentFault(f"{name} serves {kind!r}, which is not installed here", error.mend) from error
