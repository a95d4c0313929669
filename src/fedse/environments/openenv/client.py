"""A server that speaks OpenEnv's protocol, as an environment.

``openenv:http://host:port`` is its name, with a path where the server has one.  One of fedse's tells all there is to
know of its environment.  Of others the facts come from their schema, their lists of tasks and from options.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedse.environments import remote
from fedse.environments.base import Environment, EnvironmentSpec, Expert, PromptStyle, StepResult, TaskTraits
from fedse.environments.connection import pauses
from fedse.environments.openenv.socket import LostError, Socket
from fedse.environments.openenv.strangers import Stranger, check_options
from fedse.environments.review import Review, Seen
from fedse.errors import ConfigError, EnvironmentFault, FedseError, MismatchFault
from fedse.names import unknown_name
from fedse.types import Task

#: How names of such environments begin.
PREFIX = "openenv:"
#: Whoever plays counts the turns, as with any environment.
_UNLIMITED = 1_000_000
#: What a server says that is full.
_FULL = "CAPACITY_REACHED"
#: What a server says to an action that it does not understand.
_NOT_UNDERSTOOD = "VALIDATION_ERROR"


class OpenEnvEnvironment(Environment):
    """Episodes on an OpenEnv server, over a socket of this instance's own.

    Args:
        timeout: seconds within which an answer must have come as a whole.
        retries: how often connecting and opening an episode are tried again, with growing pauses.
        auth_env: environment variable with the credentials, ``user:password`` or a token; without one a ``.netrc`` file
            is asked for those of the host.
        local: options of our environment of the same kind; refused where the server's differ.
        action: the field of an action that takes the agent's text.  This option and the others are for servers that
            are not fedse's.
        observation: the field of an observation that the agent is shown.
        instruction: the rules.
        success_above: an episode succeeds iff the reward of its last step is greater; 0.99 by default.
        max_turns: turns that an agent gets; 20 by default.
        max_response_tokens: what a reply needs at most; 256 by default.
        seeds: split → first seed and the end, for a server without a list of tasks.

    Raises:
        ConfigError: if the address or an option has a bad value, or contradicts what the server tells.
        EnvironmentFault: if the server cannot be reached, or is none of OpenEnv's.
    """

    def __init__(
        self,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        auth_env: str | None = None,
        local: Mapping[str, Any] | None = None,
        action: str | None = None,
        observation: str | None = None,
        instruction: str | None = None,
        success_above: float | None = None,
        max_turns: int | None = None,
        max_response_tokens: int | None = None,
        seeds: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        strange = {
            "action": action,
            "observation": observation,
            "instruction": instruction,
            "success_above": success_above,
            "max_turns": max_turns,
            "max_response_tokens": max_response_tokens,
            "seeds": seeds,
        }
        check_options(self.name, strange)
        self._options = remote.checked_options(
            self.name, timeout=timeout, retries=retries, auth_env=auth_env, local=local, **strange
        )
        self._server = remote.connect(self.name.removeprefix(PREFIX), self._options)
        self._told = remote.told_by(self._server, "/fedse")
        self._stranger: Stranger | None = None
        self._twin: Environment | None = None
        self._no_twin = "the server is not fedse's"
        if self._told is None:
            if local:
                raise ConfigError(f"{self.name}: local has no effect: {self._no_twin}", "leave it out")
            self._stranger = Stranger(self.name, functools.partial(remote.asked, self._server), strange)
        else:
            idle = [option for option, value in strange.items() if value is not None]
            if idle:
                raise ConfigError(f"{self.name}: {', '.join(idle)} has no effect: the server tells it", "leave it out")
            try:
                self._twin = remote.twin_of(self._told.spec.name, self.name, self._told, self._options["local"])
            except FedseError as error:
                if local:
                    raise
                self._no_twin = error.what  # what is not here can be played, but not shown by an expert of ours
        # Set for the instance, since it is asked for before a run, and known by now.
        vars(self)["has_expert"] = self._twin is not None and self._twin.has_expert
        self._socket: Socket | None = None
        self._task: Task | None = None
        self._first = ""
        self._seen = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """What the server tells, under this environment's name and options."""
        spec = self._told.spec if self._told else self._known.spec
        return replace(spec, name=self.name, options=dict(self._options))

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; the server lists them."""
        return [Task(self.name, task) for task in self._ids(split)]

    def traits(self, task: Task) -> TaskTraits:
        """Those of the same task here."""
        if self._twin is None:
            raise NotImplementedError(f"{self.name} tells no traits of its tasks: {self._no_twin}")
        if task.environment != self.name:
            raise EnvironmentFault(f"{self.name}: nothing is known of the task {task}", "take a task of a split")
        return self._twin.traits(Task(self._twin.name, task.id))

    def instruction(self, style: PromptStyle) -> str:
        """The rules, as the server tells them."""
        return self._told.instructions[style] if self._told else self._known.instruction

    def reset(self, task: Task) -> str:
        """Open a task; tried again while the server cannot be reached or is full."""
        self._task = None
        self._seen = 0
        frame = {"type": "reset", "data": self._arguments(task)}
        causes: list[str] = []
        for pause in pauses(self._options["retries"]):
            time.sleep(pause)
            try:
                answer = self._ask(frame)
            except LostError as cause:
                causes.append(str(cause))
                continue
            if answer["type"] == "error" and answer["data"].get("code") == _FULL:
                causes.append(_words(answer))
                self._drop()
                continue
            self._first = self._read(answer).observation
            self._task = task
            return self._first
        raise EnvironmentFault(f"{self._server.address}/ws: {causes[-1]}", "see whether the server runs and is well")

    def step(self, action: str) -> StepResult:
        """Send an action.  It is never sent twice: an answer that does not come is a fault."""
        if self._task is None:
            raise EnvironmentFault(f"{self.name}: there is no open episode to step", "call reset with a task first")
        fields = {"message": action} if self._told else self._known.action(action)
        if fields is None:
            return StepResult("The action must be a JSON object with the fields of an action.", 0.0, False)
        # Until it is answered nobody knows where the episode stands.
        task, self._task = self._task, None
        try:
            answer = self._ask({"type": "step", "data": fields})
        except LostError as cause:
            raise EnvironmentFault(
                f"{self._server.address}/ws: {cause}", "see whether the server runs and is well"
            ) from cause
        if answer["type"] == "error" and answer["data"].get("code") == _NOT_UNDERSTOOD:
            self._task = task  # where it was
            return StepResult(_words(answer), 0.0, False)
        result = self._read(answer)
        self._task = None if result.done else task
        return result

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """As our environment of the same kind does, by text alone."""
        return super().review(turns) if self._twin is None else self._twin.review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """As our environment of the same kind does, by text alone."""
        return super().offers(turns) if self._twin is None else self._twin.offers(turns)

    def expert(self, seed: int) -> Expert:
        """The expert of our environment of the same kind, who plays the same episode here beside the server's.

        Raises:
            NotImplementedError: if there is no such environment here.
            EnvironmentFault: if no episode is open.
            MismatchFault: if the server plays something else, as with another file of the same name.
        """
        if self._twin is None or not self._twin.has_expert:
            raise NotImplementedError(f"{self.name} has no expert: {self._no_twin}")
        if self._task is None:
            raise EnvironmentFault(f"{self.name}: there is no expert for this episode", "open a task of a split first")
        what = f"{self.name}, task {self._task.id}"
        twin = Task(self._twin.name, self._task.id)
        if self._twin.reset(twin) != self._first:
            raise MismatchFault(
                f"{what}: there is no expert: the server plays something else than {twin} here",
                "give the server's files as options in `local`, or do without demonstrations",
            )
        return remote.expert_beside(self._twin, seed, self._first, what)

    def close(self) -> None:
        """Leave the server, which frees the episode there."""
        self._drop()
        self._task = None
        self._server.close()
        if self._twin is not None:
            self._twin.close()

    @property
    def _known(self) -> Stranger:
        assert self._stranger is not None  # whoever is not fedse's is a stranger
        return self._stranger

    def _ids(self, split: str) -> Sequence[str]:
        splits = self.spec.splits
        if split not in splits:
            raise unknown_name(f"{self.name} split", split, splits)
        if self._told is None:
            return list(self._known.tasks[split])
        answer = remote.asked(self._server, f"/{self._told.spec.name}/tasks", {"split": split})
        listed = answer.get("tasks") if isinstance(answer, dict) else None
        if not (
            isinstance(listed, list)
            and all(isinstance(task, dict) and isinstance(task.get("id"), str) for task in listed)
            and len(listed) == splits[split]
        ):
            raise EnvironmentFault(f"{self.name}: the list of tasks makes no sense: {str(answer)[:200]}")
        return [task["id"] for task in listed]

    def _arguments(self, task: Task) -> Mapping[str, Any]:
        if task.environment == self.name:
            if self._told:
                return {"task": task.id, "max_turns": _UNLIMITED}
            for tasks in self._known.tasks.values():
                if task.id in tasks:
                    return tasks[task.id]
        raise EnvironmentFault(f"{self.name}: there is no task {task}", "take a task of a split")

    def _ask(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, over a new socket if there is none.

        Raises:
            LostError: if none came.  The socket is gone then, and the episode with it.
            EnvironmentFault: likewise, if what came is no frame.
        """
        try:
            if self._socket is None:
                self._socket = Socket(
                    self._server.address, timeout=self._options["timeout"], headers=self._server.headers
                )
            return self._socket.ask(frame)
        except (LostError, EnvironmentFault):
            self._drop()
            raise

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self, answer: Mapping[str, Any]) -> StepResult:
        """The observation in a frame.

        Raises:
            EnvironmentFault: if there is none, or the end of an episode has no outcome.
        """
        data = answer["data"]
        if answer["type"] == "error":
            self._drop()
            raise EnvironmentFault(f"{self.name}: the server says: {_words(answer)}", "see the server's own output")
        observation, done, told_reward = data.get("observation"), data.get("done"), data.get("reward")
        reward = remote.reward_of(told_reward)  # true counts as 1, as with OpenEnv's own graders
        if (
            answer["type"] != "observation"
            or not isinstance(observation, dict)
            or not isinstance(done, bool)
            or (reward is None and told_reward is not None)
        ):
            self._drop()
            raise EnvironmentFault(
                f"{self.name}: the answer is no observation: {str(answer)[:200]}", "check the address"
            )
        if done and reward is None:
            self._drop()
            raise EnvironmentFault(f"{self.name}: the episode ended without a reward, so its outcome is unknown")
        if self._told:
            text = observation.get("text")
            if not isinstance(text, str):
                self._drop()
                raise EnvironmentFault(f"{self.name}: an observation has no text: {str(observation)[:200]}")
        else:
            text, self._seen = self._known.text(observation, self._seen)
        result = StepResult(text, reward or 0.0, done)
        told = _metadata(data).get("success")
        if done and isinstance(told, bool) and told != (result.reward > self.spec.success_above):
            raise EnvironmentFault(
                f"{self.name}: the server tells {'a success' if told else 'a failure'} with a reward of "
                f"{result.reward:g}, against success_above={self.spec.success_above:g}",
                "give the option success_above as the server means it",
            )
        return result


@functools.lru_cache(maxsize=64)
def remote_class(name: str) -> type[OpenEnvEnvironment]:
    """The class of the environment with a name such as ``openenv:http://127.0.0.1:8000``."""
    return type("OpenEnvEnvironment", (OpenEnvEnvironment,), {"name": name})


def _metadata(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is told beside an observation; old servers leave it out, or have it in one place only."""
    inside = data["observation"].get("metadata")
    beside = data.get("metadata")
    return {**(inside if isinstance(inside, dict) else {}), **(beside if isinstance(beside, dict) else {})}


def _words(answer: Mapping[str, Any]) -> str:
    """What an error says, with each place that is wrong."""
    data = answer["data"]
    errors = data.get("errors")
    places = []
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict):
            place = error.get("loc")
            where = ".".join(map(str, place)) if isinstance(place, list) else str(place)
            places.append(f"{where}: {error.get('msg')}"[:200])
    return "; ".join([str(data.get("message") or data.get("code"))[:500], *places[:5]])
