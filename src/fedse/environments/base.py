"""What an environment is.

An environment is a text game with tasks.  It knows its own rules, how its actions are written, when an episode is a
success, and how an expert would play it.  It knows nothing of models, adapters or federations.

A third-party package adds one by subclassing :class:`Environment` and naming the class in the entry-point group
``fedse.environments``.  ``fedse env check NAME`` then tells whether it keeps the contract.  What other protocols need
beside this is theirs to say, as :mod:`fedse.environments.agentgym.counterpart` does.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from fedse.environments.review import Review, Seen
from fedse.types import Task

PlayedT = TypeVar("PlayedT", bound="Environment")
PromptStyle = Literal["concise", "full"]
#: How an action is cut out of the agent's text: the first line after the first "Action:", in ``single`` (TextCraft,
#: BabyAI) cleaned to letters, digits, spaces and ``,:_``.  In parity the rules of AgentGym's clients differ more.
#: ``first``: the piece after the first "Action:" (LMRL games); ``single``: exactly one "Action:" line, cleaned to
#: letters, digits, commas and spaces; ``bracket``: the piece after the last "Action:" (WebShop).
ActionRule = Literal["first", "single", "bracket"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The environment's answer to an action."""

    observation: str
    reward: float
    done: bool


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """The facts about an environment that everything above it relies on; round-trips through JSON.

    Attributes:
        name: the registered name.
        version: raised whenever behaviour changes, so that old results are not compared with new ones.
        summary: one line for catalogues.
        max_turns: turns an agent gets by default.
        success_above: an episode succeeds iff the reward of its last step is greater than this.  The one definition of
            success in the whole library.
        max_response_tokens: what a thought and an action need at most, in tokens.
        action_rule: how an action is cut out of the agent's text.
        splits: split name → number of tasks.
        options: option name → the value in force.
    """

    name: str
    version: int
    summary: str
    max_turns: int
    success_above: float
    max_response_tokens: int
    action_rule: ActionRule
    splits: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskTraits:
    """In what tasks of one environment differ; partitions of tasks among sites go by it.

    Attributes:
        kind: what sort of task it is; a handful of sorts per environment.
        size: how much there is to read or to walk, in a unit of the environment's own.
        difficulty: how long the way to success is, in a unit of the environment's own.
    """

    kind: str
    size: int
    difficulty: int


class Expert(Protocol):
    """Plays one episode of the environment it came from.  A new one is made for every episode."""

    def act(self, observation: str) -> tuple[str, str]:
        """The next (thought, action) given what the environment just said.

        Raises:
            EnvironmentFault: if it cannot go on from that, as after the end of the episode.
        """


class Environment(ABC):
    """One running episode at a time of a text environment.  Instances are cheap and not shared between episodes.

    Class attributes:
        name: registered name, also in every :class:`~fedse.types.Task`.
        has_expert: ``False`` if :meth:`expert` raises ``NotImplementedError``.
        Options: keyword-only arguments of ``__init__`` are the environment's options.  Unknown ones are refused by the
            registry with the nearest name; a bad value is a ``ConfigError``.
    """

    name: ClassVar[str]
    has_expert: ClassVar[bool] = True

    @property
    @abstractmethod
    def spec(self) -> EnvironmentSpec:
        """Facts and limits under the options in force."""

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Task]:
        """All tasks of a split, in a fixed order.  ``train`` and ``test`` always exist and are disjoint.

        Raises:
            UnknownNameError: for an unknown split.
        """

    def traits(self, task: Task) -> TaskTraits:
        """What sort of task it is, how large and how difficult, under the options in force.

        Raises:
            NotImplementedError: if the environment does not tell its tasks apart.
            EnvironmentFault: if the task does not exist.
        """
        raise NotImplementedError(f"{self.name} tells no traits of its tasks")

    @abstractmethod
    def instruction(self, style: PromptStyle) -> str:
        """The rules of the game and its actions, in our own words; the reply format is added by the agent."""

    @abstractmethod
    def reset(self, task: Task) -> str:
        """Begin an episode and return the first observation.

        Raises:
            EnvironmentFault: if the task does not exist or the environment cannot be brought up.
        """

    @abstractmethod
    def step(self, action: str) -> StepResult:
        """Apply an action.  Any string is legal; the environment answers a bad one in words.

        Raises:
            EnvironmentFault: if no episode is open, or on a fault of the environment itself.
        """

    @abstractmethod
    def expert(self, seed: int) -> Expert:
        """An expert for the episode that :meth:`reset` opened; ``seed`` varies its words and its choices."""

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """What can be told of each turn of an episode from its text alone; by default nothing, which is good."""
        return [Review() for _ in turns]

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """Actions that would do something after these turns, for all that was shown, whatever the goal is.

        Chance takes one of them for an agent that is stuck.  By default none is known, and it goes on by itself.
        """
        del turns
        return ()

    def close(self) -> None:  # noqa: B027 (most environments hold nothing)
        """Free what the environment holds.  Safe to call twice."""


def another(environment: PlayedT, **changes: Any) -> PlayedT:
    """Another environment with the same options, but for some."""
    cls: Any = type(environment)  # its options are keyword arguments
    made: PlayedT = cls(**{**environment.spec.options, **changes})
    return made


_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def task_number(text: str) -> int | None:
    """The number that ``text`` writes in its one canonical way (no sign, no leading zero), else ``None``.

    Only one spelling counts, so that a task cannot have two ids.
    """
    return int(text) if _NUMBER.fullmatch(text) else None
