"""What one socket of OpenEnv's protocol is answered: frames in, frames out, episodes one after another.

A frame is a JSON object with a ``type``; each request gets exactly one answer.  A request that cannot be understood is
answered with an error, and the episode stays as it was.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedse.environments.base import Environment, StepResult
from fedse.errors import EnvironmentFault, boundary
from fedse.types import Task

_log = logging.getLogger(__name__)

Frame = dict[str, Any]

#: Arguments of a reset → what they must be.
RESET_ARGUMENTS: Mapping[str, str] = {
    "seed": "a number from 0",
    "episode_id": "a text of at most 255 characters",
    "split": "the name of a split",
    "index": "a number from 0",
    "task": "the id of a task",
    "max_turns": "a number from 1",
}
_LONGEST_ID = 255
_SHOWN = 80


class RequestError(Exception):
    """A request that cannot be done as asked.

    Args:
        code: the protocol's name for what is wrong.
        message: the same in words.
        problems: each with its place, in the shape of the original's framework.
    """

    def __init__(self, code: str, message: str, problems: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.frame = error_frame(code, message, **({"errors": list(problems)} if problems else {}))


def error_frame(code: str, message: str, **more: Any) -> Frame:
    """An error."""
    return {"type": "error", "data": {"message": message, "code": code, **more}}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands in its split."""

    split: str
    index: int
    task: Task


class TaskList:
    """The tasks that a server has.

    Args:
        environment: whose.

    Attributes:
        splits: name → tasks.
    """

    def __init__(self, environment: Environment) -> None:
        self.splits = {split: tuple(environment.tasks(split)) for split in environment.spec.splits}

    def at(self, split: str, index: int) -> Place | None:
        """The task at an index of a split; ``None`` if there is none."""
        tasks = self.splits[split]
        return Place(split, index, tasks[index]) if 0 <= index < len(tasks) else None

    def place(self, given: Mapping[str, Any]) -> Place:
        """The task that the arguments of a reset mean.

        Raises:
            RequestError: if they mean none.
        """
        wanted, index = given.get("task"), given.get("index")
        split = given.get("split", None if wanted is not None else "train")
        if split is not None and split not in self.splits:
            raise _invalid("split", f"there is no split {split[:_SHOWN]!r}: {', '.join(self.splits)}")
        if wanted is not None:
            found = self._named(wanted, split)
            if found is None:
                raise _invalid(
                    "task", f"there is no task {wanted[:_SHOWN]!r}" + (f" in split {split!r}" if split else "")
                )
            if index not in (None, found.index):
                raise _invalid("index", f"the task {wanted!r} has the index {found.index} in split {found.split!r}")
            return found
        count = len(self.splits[split])
        if not count:
            raise _invalid("split", f"the split {split!r} has no tasks")
        if index is None:
            # All tasks once with the seeds 0 to count - 1; the same seed, the same task.
            index = given["seed"] % count if "seed" in given else secrets.randbelow(count)
        place = self.at(split, index)
        if place is None:
            raise _invalid("index", f"the index must be of 0 to {count - 1} in split {split!r}")
        return place

    def _named(self, wanted: str, split: str | None) -> Place | None:
        for name in [split] if split is not None else self.splits:
            for index, task in enumerate(self.splits[name]):
                if task.id == wanted:
                    return Place(name, index, task)
        return None


@dataclass(slots=True)
class _Episode:
    """The state of an episode, running or over."""

    id: str
    place: Place
    limit: int
    steps: int = 0
    done: bool = False
    reward: float | None = None
    success: bool | None = None
    truncated: bool = False


class Session:
    """One socket's episodes.

    Args:
        environment: played on, and closed with the session.
        tasks: that can be asked for.
    """

    def __init__(self, environment: Environment, tasks: TaskList) -> None:
        self._environment = environment
        self._spec = environment.spec
        self._instruction = environment.instruction("full")
        self._tasks = tasks
        self._episode: _Episode | None = None
        self._requests: Mapping[str, Callable[[Frame], Frame]] = {
            "reset": self._reset,
            "step": self._step,
            "state": self._state,
            "mcp": self._mcp,
        }

    def answer(self, received: str | bytes) -> Frame | None:
        """The answer to a frame; ``None`` to a farewell."""
        try:
            frame = _read(received)
            kind = frame.get("type", "")
            if kind == "close":
                return None
            if not isinstance(kind, str) or kind not in self._requests:
                raise RequestError("UNKNOWN_TYPE", f"Unknown message type: {str(kind)[:_SHOWN]}")
            _refuse_others(frame, ("type",) if kind == "state" else ("type", "data"))
            if kind == "reset":
                frame.setdefault("data", {})
            if kind != "state" and not isinstance(frame.get("data"), dict):
                raise _invalid("data", "Input should be a valid dictionary" if "data" in frame else "Field required")
            return self._requests[kind](frame.get("data", {}))
        except RequestError as error:
            return error.frame
        except EnvironmentFault as fault:
            if fault.__cause__ is not None:
                _log.error("%s", fault.what, exc_info=fault.__cause__)
            # Nobody knows where the episode stands.
            self._episode = None
            return error_frame("EXECUTION_ERROR", fault.what)

    def close(self) -> None:
        """Free what the session holds."""
        self._environment.close()

    def _reset(self, data: Frame) -> Frame:
        unknown = [name for name in data if name not in RESET_ARGUMENTS]
        if unknown:
            known = f"a reset takes {', '.join(RESET_ARGUMENTS)}"
            raise RequestError(
                "VALIDATION_ERROR",
                f"unknown: {', '.join(unknown)[:_SHOWN]}; {known}",
                [_problem("extra_forbidden", name[:_SHOWN], known) for name in unknown[:_SHOWN]],
            )
        given = {name: value for name, value in data.items() if value is not None}
        for name, value in given.items():
            if not _is_sound(name, value):
                raise _invalid(name, f"{name} must be {RESET_ARGUMENTS[name]}")
        place = self._tasks.place(given)
        self._episode = None
        with boundary(EnvironmentFault, "reset failed"):
            text = self._environment.reset(place.task)
        self._episode = _Episode(
            given.get("episode_id") or str(uuid.uuid4()), place, given.get("max_turns", self._spec.max_turns)
        )
        return _observation({"text": text, "instruction": self._instruction}, None, False, {})

    def _step(self, data: Frame) -> Frame:
        message = _message(data)
        episode = self._episode
        if episode is None or episode.done:
            raise RequestError("EXECUTION_ERROR", "There is no open episode: reset first.")
        with boundary(EnvironmentFault, "step failed"):
            result: StepResult = self._environment.step(message)
            if not math.isfinite(result.reward):
                raise EnvironmentFault(f"the reward is {result.reward}")
        episode.steps += 1
        episode.reward = float(result.reward)
        episode.truncated = not result.done and episode.steps >= episode.limit
        episode.done = bool(result.done) or episode.truncated
        metadata: Frame = {}
        if episode.done:
            episode.success = episode.reward > self._spec.success_above
            metadata = {"success": episode.success, "truncated": episode.truncated}
        return _observation({"text": result.observation}, episode.reward, episode.done, metadata)

    def _state(self, data: Frame) -> Frame:  # noqa: ARG002 (the signature of a request)
        episode = self._episode
        place = episode.place if episode else None
        return {
            "type": "state",
            "data": {
                "episode_id": episode.id if episode else None,
                "step_count": episode.steps if episode else 0,
                "environment": self._spec.name,
                "split": place.split if place else None,
                "index": place.index if place else None,
                "task": place.task.id if place else None,
                "done": episode.done if episode else False,
                "reward": episode.reward if episode else None,
                "success": episode.success if episode else None,
                "truncated": episode.truncated if episode else False,
            },
        }

    def _mcp(self, data: Frame) -> Frame:
        return {"type": "mcp", "data": no_tools(data)}


def no_tools(request: Any) -> Frame:
    """The JSON-RPC answer of an environment that has no tools."""
    number = request.get("id") if isinstance(request, dict) else None
    method = request.get("method") if isinstance(request, dict) and request.get("jsonrpc") == "2.0" else None
    if not isinstance(method, str):
        error = {"code": -32600, "message": "Invalid request", "data": None}
    elif method in ("tools/list", "tools/call", "openenv/session/create", "openenv/session/close"):
        error = {"code": -32603, "message": "This environment has no tools", "data": None}
    else:
        error = {"code": -32601, "message": f"Method not found: {method[:_SHOWN]}", "data": None}
    return {"jsonrpc": "2.0", "id": number if isinstance(number, int | str) else None, "error": error}


def _read(received: str | bytes) -> Frame:
    if isinstance(received, bytes):
        raise RequestError("VALIDATION_ERROR", "A frame must be text", [_problem("string_type", "", "binary frame")])
    try:
        frame = json.loads(received)
    except (ValueError, RecursionError) as cause:
        raise RequestError("INVALID_JSON", f"Invalid JSON: {str(cause)[:_SHOWN]}") from None
    if not isinstance(frame, dict):
        raise _invalid("", "Input should be a valid dictionary")
    return frame


def _message(action: Frame) -> str:
    _refuse_others(action, ("message", "metadata"))
    if not isinstance(action.get("metadata", {}), dict):
        raise _invalid("metadata", "Input should be a valid dictionary")
    if "message" not in action:
        raise _invalid("message", "Field required")
    message = action["message"]
    # Some clients read an agent's reply as JSON where it happens to be; the agent wrote a text.
    try:
        return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    except RecursionError:
        raise _invalid("message", "it is nested too deeply") from None


def _is_sound(name: str, value: Any) -> bool:
    if name in ("seed", "index", "max_turns"):
        return isinstance(value, int) and not isinstance(value, bool) and value >= (name == "max_turns")
    return isinstance(value, str) and (name != "episode_id" or len(value) <= _LONGEST_ID)


def _refuse_others(fields: Frame, known: Sequence[str]) -> None:
    others = [field for field in fields if field not in known]
    if others:
        problems = [_problem("extra_forbidden", field, "Extra inputs are not permitted") for field in others[:_SHOWN]]
        raise RequestError("VALIDATION_ERROR", "Invalid message", problems)


def _invalid(field: str, what: str) -> RequestError:
    return RequestError("VALIDATION_ERROR", f"Invalid message: {what}", [_problem("value_error", field, what)])


def _problem(kind: str, field: str, what: str) -> Frame:
    return {"type": kind, "loc": [field[:_SHOWN]] if field else [], "msg": what}


def _observation(content: Frame, reward: float | None, done: bool, metadata: Frame) -> Frame:
    data = {"observation": {**content, "metadata": metadata}, "reward": reward, "done": done}
    return {"type": "observation", "data": {**data, "metadata": metadata} if metadata else data}
