"""What OpenEnv's own server said, recorded frame by frame, and what our client makes of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fedse.environments import Environment, make, remote
from fedse.environments.base import StepResult
from fedse.errors import EnvironmentFault
from fedse.types import Task
from helpers.openenv_servers import seen, stranger
from helpers.recordings import recording

FILES = ["normal", "errors", "echo"]


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(recording(f"openenv/{name}"), "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def exchanges(name: str) -> dict[tuple[str, str], str]:
    """(kind of request, answer) → the request, of all resets and steps."""
    found: dict[tuple[str, str], str] = {}
    waiting: dict[int, list[str]] = {}
    for row in rows(name):
        if row["who"] != "server" or row.get("path") == "/mcp":
            continue
        if row.get("event") == "receive":
            waiting.setdefault(row["conn"], []).append(row.get("text") or "")
        elif row.get("event") == "send" and "text" in row:
            request = waiting.get(row["conn"], []).pop(0) if waiting.get(row["conn"]) else '{"type": "reset"}'
            for kind in ("reset", "step"):
                if f'"type": "{kind}"' in request:
                    found.setdefault((kind, row["text"]), request)
    return found


def _played(environment: Environment, task: Task) -> None:
    environment.reset(task)
    environment.step("1")


@pytest.fixture
def recorded_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server's answers over HTTP, before it was put into another mode."""
    answers: dict[tuple[str, str], Any] = {}
    for row in rows("http"):
        if row.get("type") == "http" and isinstance(row["response"], str) and row["status"] in (200, 404):
            is_question = row["method"] == "POST" and row["request"].startswith('{"split')
            key = (row["path"], json.dumps(json.loads(row["request"])) if is_question else "")
            answers.setdefault(key, json.loads(row["response"]) if row["status"] == 200 else None)
    lists = {"train": 5, "test": 5}

    def asked(line: Any, path: str, body: Any = None) -> Any:
        if path.endswith("/num_tasks"):
            return answers.get((path, json.dumps(body)), {"num_tasks": lists[body["split"]]})
        return answers.get((path, json.dumps(body) if body else ""))

    monkeypatch.setattr(remote, "asked", asked)


@pytest.mark.usefixtures("recorded_answers")
def test_the_real_servers_schema_and_tasks_are_understood() -> None:
    environment = make("openenv:http://127.0.0.1:1")
    assert environment.spec.summary == "Guess a number"
    assert environment.spec.splits == {"train": 5, "test": 5}
    assert [task.id for task in environment.tasks("train")] == [f"train/{index}" for index in range(5)]


@pytest.mark.usefixtures("recorded_answers")
@pytest.mark.parametrize("name", FILES)
def test_each_recorded_answer_is_a_result_the_agents_mistake_or_a_fault(name: str) -> None:
    counted = {"results": 0, "mistakes": 0, "faults": 0}
    for (kind, text), request in exchanges(name).items():
        told = json.loads(text)

        def reply(frame: dict[str, Any], _: int, kind: str = kind, text: str = text) -> Any:
            return seen("Go.") if kind == "step" and frame["type"] == "reset" else text

        with stranger(reply) as (address, received):
            environment = make(address, retries=0)
            task = environment.tasks("test")[0]
            code = told["data"].get("code")
            if told["type"] == "error" and not (kind == "step" and code == "VALIDATION_ERROR"):
                with pytest.raises(EnvironmentFault, match="the server says"):
                    _played(environment, task)
                counted["faults"] += 1
            elif told["type"] == "error":
                environment.reset(task)
                result = environment.step("1")
                assert told["data"]["message"] in result.observation
                assert (result.reward, result.done) == (0.0, False)
                counted["mistakes"] += 1
            else:
                first = environment.reset(task)
                result = environment.step("1") if kind == "step" else StepResult(first, 0.0, False)
                expected = told["data"]["observation"].get("text")
                assert expected is None or result.observation == expected
                assert result.reward == float(told["data"]["reward"] or 0) or kind == "reset"
                assert result.done == told["data"]["done"]
                counted["results"] += 1
            environment.close()
        if kind == "step":
            assert received[-1] == {"type": "step", "data": {"message": "1"}}
            assert json.loads(request)["type"] == "step"
    assert counted["results"] >= 3
    assert name != "errors" or (counted["mistakes"] >= 2 and counted["faults"] >= 3)


def test_our_requests_are_those_of_the_real_client() -> None:
    """Frames of the same keys, in the same envelope."""
    theirs = {frozenset(json.loads(request)) for (_, _), request in exchanges("normal").items()}
    with stranger(lambda frame, _: seen("x", 0)) as (address, received):
        environment = make(address)
        _played(environment, environment.tasks("test")[0])
        environment.close()
    assert {frozenset(frame) for frame in received} <= theirs
