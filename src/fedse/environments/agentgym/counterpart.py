"""An environment as AgentGym knows it: the numbers of its tasks, its server's payloads, its recordings.

Every environment has a counterpart, so every environment can be served.  The plain one numbers tasks by position.  An
environment that exists in AgentGym names a class of its own::

    class Maze(Environment):
        agentgym: ClassVar[str] = "fedse.environments.maze.agentgym:MazeCounterpart"
"""

from __future__ import annotations

import functools
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from fedse.environments.base import Environment, StepResult, another, task_number
from fedse.errors import EnvironmentFault, boundary
from fedse.types import Task

Played = TypeVar("Played", bound=Environment)


class Session(ABC):
    """One slot.  What goes wrong is an answer, too: ``{"error": text}``."""

    @abstractmethod
    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``."""

    @abstractmethod
    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /step``."""

    def recorded_fields(self) -> dict[str, Any]:
        """What recordings note beside the payload of the last step: field → value."""
        return {}

    def close(self) -> None:  # noqa: B027 (most sessions hold nothing)
        """Free what the session holds."""


class GameSession(Session, Generic[Played]):
    """A slot that plays on an environment of its own.

    Args:
        game: the environment; the session closes it.
        slot: the slot's number, quoted in payloads.
        parity: also reproduce what the original server gets wrong.
    """

    def __init__(self, game: Played, slot: int, *, parity: bool = False) -> None:
        self.game = game
        self.slot = slot
        self.parity = parity
        self.done = False

    def step(self, action: str) -> dict[str, Any]:
        """See :class:`Session`."""
        if self.done:
            return finished(self.slot)
        try:
            result = self.game.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self.done = result.done
        return self.answer(result)

    def answer(self, result: StepResult) -> dict[str, Any]:
        """The payload that tells the result of a step."""
        return {"observation": result.observation, "reward": result.reward, "done": result.done}

    def close(self) -> None:
        """See :class:`Session`."""
        self.game.close()


def finished(slot: int) -> dict[str, Any]:
    """The answer to whoever goes on after the end of an episode."""
    return {"error": f"The task with environment {slot} has finished."}


class Counterpart(Generic[Played]):
    """What AgentGym's protocol needs of an environment beside the episodes; this class serves any environment.

    Args:
        environment: the environment, with its options; sessions play on others like it.
    """

    #: The sessions of an environment that AgentGym has.
    session_class: ClassVar[type[GameSession[Any]] | None] = None
    #: Options that leave tasks out of the splits → the values with which they leave out none.
    limits: ClassVar[Mapping[str, Any]] = {}
    #: Options that mean nothing in AgentGym's protocol.
    unspoken: ClassVar[Sequence[str]] = ()

    def __init__(self, environment: Played) -> None:
        self.environment = environment

    @property
    def options(self) -> Mapping[str, Any]:
        """The environment's options."""
        return self.environment.spec.options

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """What a server can be asked for: split → number given at reset → the same task here.

        Here these are positions, counted through all splits in order.  As in the environment, ``train`` and ``test``
        exist and are disjoint.  Tasks that servers do not have are left out.
        """
        numbered: dict[str, Mapping[int, Task]] = {}
        first = 0
        for split in self.environment.spec.splits:
            numbered[split] = dict(enumerate(self.environment.tasks(split), start=first))
            first += len(numbered[split])
        return numbered

    @functools.cached_property
    def numbered(self) -> Mapping[int, Task]:
        """Number → task, of all splits."""
        return {number: task for tasks in self.tasks().values() for number, task in tasks.items()}

    @functools.cached_property
    def left_out(self) -> Collection[int]:
        """The numbers of tasks that the environment's limits leave out, which its server refuses."""
        if all(self.options[option] == value for option, value in self.limits.items()):
            return frozenset()
        return type(self)(self.fresh(**self.limits)).numbered.keys() - self.numbered.keys()

    def fresh(self, **changes: Any) -> Played:
        """Another environment with the same options, but for some."""
        return another(self.environment, **changes)

    def session(self, slot: int = 0) -> Session:
        """The episode slot of a number on the environment's server."""
        if self.session_class is None:
            return PlainSession(self.fresh(), slot, self.numbered)
        return self.session_class(self.fresh(), slot, parity=self.options["parity"])

    def imported_task(self, item: str, observation: str) -> Task | None:  # noqa: ARG002 (some need it)
        """The task that an item of AgentGym's trajectory data means, or ``None``.

        Args:
            item: the item's id without the environment's name and the ``_`` after it: ``17`` of ``maze_17``.  Files
                that fedse wrote have our own task ids there.
            observation: the first observation in the data, for environments in which the number does not tell.
        """
        number = task_number(item)
        return Task(self.environment.name, item) if number is None else self.task_of(number)

    def task_of(self, number: int) -> Task:
        """The task that a number means in AgentGym's data, without asking whether it exists; here it is our own id."""
        return Task(self.environment.name, str(number))

    def match(self, ask: Callable[[str], Any]) -> None:
        """Let the environment take over what differs from server to server, before an episode is played on one.

        Args:
            ask: path of a question, such as ``filtered_vocab`` → the server's answer.

        Raises:
            EnvironmentFault: if the answers make no sense.
        """

    def recorded_session(self, record: Mapping[str, Any]) -> Session:  # noqa: ARG002 (some need it)
        """A session under the conditions in which a recorded episode was made (options, data, results to inject).

        Recordings of AgentGym's environments were made with the original's faults.

        Args:
            record: one episode of a recording, with all its fields.  ``folder`` is the folder of its file, where
                further data may lie.
        """
        return self.session_class(self.fresh(parity=True), 0, parity=True) if self.session_class else self.session()

    def recorded_case(self, part: str, record: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 (some need it)
        """Our answer to a recorded case of one part of the environment, such as its reward.

        Args:
            part: the part's name, as in ``NAME_part``, the record's ``env``.
            record: the case, with all its fields.

        Returns:
            Field → value, to be compared with the record's fields of the same names.

        Raises:
            EnvironmentFault: if that part is not recorded alone.
        """
        raise EnvironmentFault(f"{self.environment.name} has no part {part!r} that is recorded alone")


class PlainSession(GameSession[Environment]):
    """A slot for an environment that AgentGym does not have.

    Args:
        game, slot: see :class:`GameSession`.
        tasks: number given at reset → task.
    """

    def __init__(self, game: Environment, slot: int, tasks: Mapping[int, Task]) -> None:
        super().__init__(game, slot)
        self._tasks = tasks

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /reset``; takes ``data_idx``, the position of a task."""
        number: int = kwargs["data_idx"]
        if number not in self._tasks:
            return {"error": f"There is no task {number}: they are numbered 0 to {len(self._tasks) - 1}."}
        observation = self.game.reset(self._tasks[number])
        self.done = False
        return {"id": self.slot, "observation": observation, "done": False, "reward": 0}


def counterpart_of(environment: Environment) -> Counterpart[Any]:
    """The counterpart that an environment's class names in ``agentgym``, else the plain one.

    Raises:
        EnvironmentFault: if there is no such class, or it cannot be made.
    """
    where = getattr(environment, "agentgym", f"{__name__}:{Counterpart.__name__}")
    with boundary(EnvironmentFault, f"{environment.name}: its AgentGym counterpart {where!r} cannot be made"):
        counterpart: Counterpart[Any] = pkgutil.resolve_name(where)(environment)
    return counterpart
