"""A server that speaks AgentGym's protocol, as an environment.

``agentgym:http://host:port`` is its name, with the path ``/maze`` or ``/wordle`` where the server has one.  The rules,
limits and splits are those of our environment of the same kind.  Its options are the server's where it tells them, as
ours do; what is played is the server's own in any case.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedse.environments import remote
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
from fedse.environments.review import Review, Seen
from fedse.errors import EnvironmentFault, MismatchFault
from fedse.names import unknown_name
from fedse.types import Task

#: How names of such environments begin.
PREFIX = "agentgym:"


class AgentGymEnvironment(Environment):
    """Episodes on an AgentGym server.  A task's id is the number that the server knows it by.

    Args:
        timeout: seconds within which an answer must have come as a whole.
        retries: how often a request is tried again, with growing pauses, when the server cannot be reached.
        auth_env: environment variable with the credentials, ``user:password`` or a token; without one a ``.netrc`` file
            is asked for those of the host.
        local: options of our environment of the same kind, where the server does not tell its own.

    Raises:
        ConfigError: if the address or an option has a bad value, or ``local`` is not as on the server.
        EnvironmentFault: if the server cannot be reached, or is of no kind or of another version than known here.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        auth_env: str | None = None,
        local: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = remote.checked_options(
            self.name, timeout=timeout, retries=retries, auth_env=auth_env, local=local
        )
        address = self.name.removeprefix(PREFIX).rstrip("/")
        kind = prefixed_name(address)
        self._server = remote.connect(address.removesuffix(f"/{kind}"), self._options)
        kind = kind or greeted_name(remote.asked(self._server, "/"), address)
        self._dialect = dialect_of(kind)
        told = remote.told_by(self._server, self._dialect.path("fedse"))
        self._local = remote.twin_of(kind, self.name, told, self._options["local"])
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
        reward = remote.reward_of(self._field(answer, "reward", int | float))
        if reward is None:
            raise EnvironmentFault(f"{self.name}: the reward is no finite number: {str(answer)[:200]}")
        self._number = None if done else number
        return StepResult(observation, reward, done)

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """As our environment of the same kind does, by text alone."""
        return self._local.review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """As our environment of the same kind does, by text alone."""
        return self._local.offers(turns)

    def expert(self, seed: int) -> Expert:
        """The expert of our environment of the same kind, who plays the same episode here beside the server's.

        Raises:
            EnvironmentFault: if no episode is open, or the task is in no split.
            MismatchFault: if the server plays something else under its number, as it does with other words, products
                or recipes.
        """
        self._match()
        twin = None if self._number is None else self._counterpart.numbered.get(self._number)
        if twin is None:
            raise EnvironmentFault(f"{self.name}: there is no expert for this episode", "open a task of a split first")
        what = f"{self.name}, task {self._number}"
        if self._local.reset(twin) != self._first:
            raise MismatchFault(
                f"{what}: there is no expert: the server plays something else than {twin} here",
                "give options of the local environment that fit the server's data, or do without demonstrations",
            )
        return remote.expert_beside(self._local, seed, self._first, what)

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


@functools.lru_cache(maxsize=64)
def remote_class(name: str) -> type[AgentGymEnvironment]:
    """The class of the environment with a name such as ``agentgym:http://127.0.0.1:8000``."""
    return type("AgentGymEnvironment", (AgentGymEnvironment,), {"name": name})
