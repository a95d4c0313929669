"""No frame breaks a session or a client: 10,000 of them, sound and damaged, the same ones in every run."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from fedse.environments import make, remote
from fedse.environments.base import StepResult
from fedse.environments.connection import parsed
from fedse.environments.openenv import client
from fedse.environments.openenv.sessions import Session, TaskList
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

NAMES = ["babyai", "maze", "textcraft", "webshop", "wordle"]
FRAMES = 10_000
CODES = {"INVALID_JSON", "UNKNOWN_TYPE", "VALIDATION_ERROR", "EXECUTION_ERROR"}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    2**31,
    10**400,
    0.5,
    1e308,
    "",
    "1",
    "x" * 5000,
    "\x00\n\u202e𝒳",
    [],
    [[[]]],
    {},
]
ACTIONS = ["move up", "crane", "inventory", "get 1 oak log", "search[lamp]", "click[buy now]", "turn left", "go to x 1"]
DAMAGED: list[str | bytes] = [
    "",
    "{",
    "[" * 100_000,
    '{"a":' * 50_000,
    '{"type": "reset", "data": {"seed": NaN}}',
    '{"type": "step", "data": {"message": "\\ud800"}}',
    '{"type": "step", "data": {"message": ' + "[" * 900 + "]" * 900 + "}}",
    '{"type": "dance", "type": "state"}',
    "9" * 9000,
    "null",
    '"reset"',
    b"\xff\xfe",
    b'{"type": "state"}',
]


def drawn(rng: random.Random, splits: list[str]) -> str | bytes:
    """A frame; two of three are sound."""
    if rng.random() < 0.1:
        return rng.choice(DAMAGED)
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200)).decode("latin-1")
    kind = rng.choices(["reset", "step", "state", "mcp", rng.choice(ODD)], [3, 8, 1, 1, 1])[0]
    frame: dict[str, Any] = {"type": kind}
    if kind == "reset":
        known = {
            "seed": rng.randrange(1000),
            "episode_id": "e",
            "split": rng.choice(splits),
            "index": rng.randrange(50),
        }
        frame["data"] = {name: value for name, value in known.items() if rng.random() < 0.5}
        if rng.random() < 0.3:
            frame["data"][rng.choice([*known, "task", "other"])] = rng.choice(ODD)
    elif kind == "step":
        frame["data"] = {"message": rng.choice(ACTIONS) if rng.random() < 0.8 else rng.choice(ODD)}
        if rng.random() < 0.1:
            frame["data"][rng.choice(["metadata", "timeout_s"])] = rng.choice(ODD)
    elif kind == "mcp":
        frame["data"] = {"jsonrpc": "2.0", "id": rng.choice(ODD), "method": rng.choice([*ODD, "tools/list"])}
    if rng.random() < 0.05:
        frame[rng.choice(["data", "id", "x" * 300])] = rng.choice(ODD)
    return json.dumps(frame)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_any_frame_has_one_answer(name: str) -> None:
    environment = make(name)
    tasks = TaskList(environment)
    session = Session(environment, tasks)
    rng = python_random("openenv-fuzz", name)
    kinds: Counter[str] = Counter()
    for _ in range(FRAMES // len(NAMES)):
        frame = drawn(rng, list(tasks.splits))
        answer = session.answer(frame)
        assert answer is not None, frame[:200]
        json.dumps(answer).encode("ascii")
        assert answer["type"] != "error" or answer["data"]["code"] in CODES, (frame[:200], answer)
        kinds[answer["type"]] += 1
    assert set(kinds) == {"observation", "state", "mcp", "error"}
    assert kinds["observation"] > 400, "unless sound frames come through, damaged ones are turned away at the door"


def answered(rng: random.Random) -> str:
    """An answer of some server; most are of the right form but for one thing."""
    observation: dict[str, Any] = {"text": "x", "metadata": {}}
    data: dict[str, Any] = {"observation": observation, "reward": rng.choice([0, 1.0, None]), "done": False}
    frame: dict[str, Any] = {"type": "observation", "data": data}
    if rng.random() < 0.3:
        frame = {"type": "error", "data": {"message": "no", "code": rng.choice([*CODES, *ODD])}}
    fields = ["type", "data", "observation", "reward", "done", "metadata", "text", "errors", "code", "success"]
    odd = [*ODD, {"success": 1}, [{"loc": 3}, {"loc": [1], "msg": None}], float("inf"), "\ud800"]
    rng.choice([frame, frame["data"], observation, {}])[rng.choice(fields)] = rng.choice(odd)
    return json.dumps(frame)


@pytest.mark.parametrize("is_fedse", [True, False])
def test_any_answer_is_a_result_or_a_fault(is_fedse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = python_random("openenv-answers")

    class Line:
        """A socket on which anything may come."""

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def ask(self, frame: dict[str, Any]) -> Any:
            answer = parsed(answered(rng), "a request")
            if not (isinstance(answer, dict) and "type" in answer and isinstance(answer.get("data"), dict)):
                raise EnvironmentFault("no frame")
            return answer

        def close(self) -> None:
            pass

    from fedse.environments.telling import Told, told

    facts = Told(told(make("maze")), "here") if is_fedse else None
    monkeypatch.setattr(remote, "told_by", lambda *_: facts)
    lists = {"/schema": {"action": {}}, "/maze/tasks": {"tasks": [{"id": "x"}] * make("maze").spec.splits["test"]}}
    monkeypatch.setattr(remote, "asked", lambda line, path, body=None: lists.get(path))
    monkeypatch.setattr(client, "Socket", Line)
    environment = make("openenv:http://127.0.0.1:1", retries=0)
    task = environment.tasks("test")[0]
    good = 0
    for _ in range(2000):
        try:
            text = environment.reset(task)
            assert isinstance(text, str)
            text.encode()
            result = environment.step('{"message": "x"}')
            assert isinstance(result, StepResult)
            result.observation.encode()
            good += 1
        except EnvironmentFault:
            pass
    assert good > 100
