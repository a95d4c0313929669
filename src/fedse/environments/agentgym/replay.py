"""Replay recordings of the original environments and report every difference.

A recording is a JSONL file, gzipped or plain, with one episode a line::

    {"env": "maze", "reset_kwargs": {"game": 3}, "reset": {…}, "steps": [{"action": "move up", "observation": …}, …], …}

``reset`` (optional) and every step hold the original server's payload; a step also holds the action.  A line with the
key ``meta`` instead of ``env`` describes the file and is passed over.  Steps may note further facts, such as Wordle's
possible words.  They are compared with what the session's method ``recorded_fields`` gives; a recorded ``null`` means
that the fact was not noted.  The environment's :class:`~fedse.environments.agentgym.counterpart.Counterpart` prepares
the session of an episode.

A line without ``steps`` is a case of a part of an environment: ``env`` is then ``NAME_part``, and the fields that the
counterpart gives are compared with the recorded ones.

A line with ``text`` is a reply of an agent: ``posted`` holds what AgentGym's client of the environment ``env`` sent to
the server, ``local`` what it answered on its own instead.  One file may hold replies for several environments.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.environments.agentgym.counterpart import Counterpart, counterpart_of
from fedse.environments.base import ActionRule
from fedse.environments.registry import make
from fedse.errors import EnvironmentFault, StoreError, UnknownNameError, boundary
from fedse.texts import parse_json

#: Stands for a value in a :class:`Difference` where one side has none.
ABSENT = "(absent)"

_GZIP_MAGIC = b"\x1f\x8b"

#: An agent's text and a rule → the action in it, and what is said to the agent instead of taking it, or ``None``.
Reader = Callable[[str, ActionRule], tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as recorded."""

    line: int  #: line of the file, from 1
    step: int | None  #: step of the episode, from 0; ``None`` for the reset
    field: str  #: name of the field
    expected: Any  #: the recorded value, or :data:`ABSENT`
    found: Any  #: our value, or :data:`ABSENT`

    def __str__(self) -> str:
        place = "reset" if self.step is None else f"step {self.step}"
        return f"line {self.line}, {place}, {self.field}: expected {self.expected!r}, found {self.found!r}"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found."""

    env: str  #: name of the environment, or of its part; several names for replies; empty for a file without episodes
    #: episodes, steps: how many were replayed; a case and a reply count as an episode of one step
    episodes: int
    steps: int
    differences: tuple[Difference, ...]  #: all differences, in file order


def replay_file(path: str | Path, read: Reader | None = None) -> ReplayReport:
    """Play every recorded episode again and compare all recorded values, their JSON types included.

    Args:
        path: the recording.
        read: how replies are read, with the faults of AgentGym's clients; needed for a recording of replies.

    Raises:
        StoreError: if the file cannot be read or a line is damaged, or holds replies without a ``read``; the message
            names the line.
        EnvironmentFault: if our environment breaks down while it plays a line.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"there is no recording {path}", "give a JSONL file, gzipped or plain")
    names: dict[str, None] = {}
    episodes, steps = 0, 0
    differences: list[Difference] = []
    for line, record in _records(path):
        _check_shape(path, line, record)
        name = record["env"]
        if names.keys() - {name} and "text" not in record:
            raise _damaged(path, line, f"the environment changes from {next(iter(names))!r} to {name!r}")
        names[name] = None
        with boundary(EnvironmentFault, f"{path}, line {line}: {name} broke down in a replay"):
            if "text" in record:
                differences += _replay_reply(path, line, record, read)
            else:
                differences += (_replay if "steps" in record else _replay_case)(path, line, record)
        episodes += 1
        steps += len(record["steps"]) if "steps" in record else 1
    return ReplayReport(", ".join(names), episodes, steps, tuple(differences))


def _replay(path: Path, line: int, record: Mapping[str, Any]) -> list[Difference]:
    session = _counterpart(path, line, record["env"]).recorded_session({**record, "folder": str(path.parent)})
    payload = session.reset(**record["reset_kwargs"])
    differences: list[Difference] = []
    if "reset" in record:
        differences += _compare(line, None, record["reset"], payload, {})
    for number, step in enumerate(record["steps"]):
        payload = session.step(step["action"])
        recorded = {field: value for field, value in step.items() if field != "action"}
        differences += _compare(line, number, recorded, payload, session.recorded_fields())
    return differences


def _replay_case(path: Path, line: int, record: Mapping[str, Any]) -> list[Difference]:
    name, _, part = record["env"].partition("_")
    answer = _counterpart(path, line, name).recorded_case(part, record)
    recorded = {field: value for field, value in record.items() if field in answer}
    return list(_compare(line, 0, recorded, answer, {}))


def _replay_reply(path: Path, line: int, record: Mapping[str, Any], read: Reader | None) -> list[Difference]:
    if read is None:
        raise StoreError(f"{path}, line {line} holds a reply, and nothing is given to read it with", "give `read`")
    rule = _counterpart(path, line, record["env"]).environment.spec.action_rule
    action, error = read(record["text"], rule)
    answer = {
        "posted": [{"path": "step", "action": action}] if error is None else [],
        "local": None if error is None else {"state": error, "reward": 0, "done": False},
    }
    recorded = {field: record.get(field, ABSENT) for field in answer}
    return list(_compare(line, 0, recorded, answer, {}))


def _counterpart(path: Path, line: int, name: str) -> Counterpart[Any]:
    try:
        return _default(name)
    except UnknownNameError as error:
        raise StoreError(f"{path}, line {line}: {error.what}", error.mend) from error


@functools.lru_cache(maxsize=16)
def _default(name: str) -> Counterpart[Any]:
    return counterpart_of(make(name))


def _compare(
    line: int, step: int | None, recorded: Mapping[str, Any], payload: Mapping[str, Any], noted: Mapping[str, Any]
) -> Iterator[Difference]:
    for field, expected in recorded.items():
        if field not in payload and field in noted and expected is None:
            continue
        found = payload.get(field, noted.get(field, ABSENT))
        # As JSON text, because 0, 0.0 and false are equal in Python but not on the wire.
        if json.dumps(found, sort_keys=True) != json.dumps(expected, sort_keys=True):
            yield Difference(line, step, field, expected, found)
    for field in sorted(payload.keys() - recorded.keys()):
        yield Difference(line, step, field, ABSENT, payload[field])


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, parsed line) of every episode in the file."""
    number = 0
    try:
        with path.open("rb") as probe:
            opener = gzip.open if probe.read(2) == _GZIP_MAGIC else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, text in enumerate(lines, start=1):
                if not text.strip():
                    continue
                record = parse_json(text)
                if not (isinstance(record, dict) and "meta" in record and "env" not in record):
                    yield number, record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as cause:
        raise _damaged(path, number + 1, f"it cannot be read: {cause}") from cause
    except ValueError as cause:
        raise _damaged(path, number, f"it is not JSON: {cause}") from cause


def _check_shape(path: Path, line: int, record: Any) -> None:
    """Refuse a line that is not an episode."""
    if not isinstance(record, dict):
        raise _damaged(path, line, f"it holds {type(record).__name__} instead of an object")
    episode = (("reset_kwargs", dict), ("steps", list)) if {"reset_kwargs", "steps"} & record.keys() else ()
    reply = (("text", str),) if "text" in record else ()
    for field, kind in (("env", str), *episode, *reply):
        if not isinstance(record.get(field), kind):
            raise _damaged(path, line, f"the field {field!r} is missing or is no {kind.__name__}")
    if not isinstance(record.get("reset", {}), dict):
        raise _damaged(path, line, "the field 'reset' is no dict")
    for number, step in enumerate(record.get("steps", ())):
        if not (isinstance(step, dict) and isinstance(step.get("action"), str)):
            raise _damaged(path, line, f"step {number} is not an object with an action")


def _damaged(path: Path, line: int, what: str) -> StoreError:
    return StoreError(f"the recording {path} is damaged in line {line}: {what}", "record it again or get a sound copy")
