"""The server speaks OpenEnv's protocol: each request has one answer, and a wrong one harms nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fedse.environments import make
from fedse.environments.openenv.sessions import Session, TaskList
from fedse.environments.serving import Limits
from fedse.errors import EnvironmentFault
from helpers.example_package import install_example
from helpers.served_environments import served


def session(name: str = "maze", **options: Any) -> Session:
    environment = make(name, **options)
    return Session(environment, TaskList(environment))


def said(session: Session, frame: Any) -> dict[str, Any]:
    answer = session.answer(frame if isinstance(frame, str | bytes) else json.dumps(frame))
    assert answer is not None
    return answer


def reset(session: Session, **arguments: Any) -> dict[str, Any]:
    return said(session, {"type": "reset", "data": arguments})


def step(session: Session, message: Any) -> dict[str, Any]:
    return said(session, {"type": "step", "data": {"message": message}})


def state(session: Session) -> dict[str, Any]:
    return said(session, {"type": "state"})["data"]


class TestEpisodes:
    def test_one_from_reset_to_success(self) -> None:
        maze, here = session(), make("maze")
        assert state(maze)["episode_id"] is None
        opened = reset(maze, task="double_t/18", episode_id="e-1")
        assert opened == {
            "type": "observation",
            "data": {
                "observation": {
                    "text": here.reset(here.tasks("test")[0].__class__("maze", "double_t/18")),
                    "instruction": here.instruction("full"),
                    "metadata": {},
                },
                "reward": None,
                "done": False,
            },
        }
        assert step(maze, "move left")["data"]["done"] is False
        won = step(maze, "move down")
        ending = {"success": True, "truncated": False}
        assert won["data"] == {
            "observation": {"text": "Success\n", "metadata": ending},
            "reward": 1.0,
            "done": True,
            "metadata": ending,
        }
        known = state(maze)
        assert (known["episode_id"], known["step_count"], known["task"], known["success"]) == (
            "e-1",
            2,
            "double_t/18",
            True,
        )
        assert step(maze, "move down")["data"]["code"] == "EXECUTION_ERROR"

    def test_running_out_of_turns_is_told_from_losing(self) -> None:
        maze, turns = session(), make("maze").spec.max_turns
        reset(maze, seed=0)
        ends = [step(maze, "stay")["data"] for _ in range(turns)]
        assert [end["done"] for end in ends] == [False] * (turns - 1) + [True]
        assert ends[-1]["metadata"] == {"success": False, "truncated": True}
        reset(maze, seed=0, max_turns=2)
        assert [step(maze, "stay")["data"]["done"] for _ in range(2)] == [False, True]

    def test_seeds_are_all_tasks_once_and_the_same_each_time(self) -> None:
        words, count = session("wordle"), make("wordle").spec.splits["test"]

        def drawn(seed: int) -> str:
            reset(words, seed=seed, split="test")
            return state(words)["task"]

        assert len({drawn(seed) for seed in range(count)}) == count
        assert drawn(3) == drawn(3 + count)
        reset(words)
        assert state(words)["split"] == "train"
        reset(words, split="test", index=5, seed=99)
        assert state(words)["index"] == 5

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"sed": 3}, "seed, episode_id, split, index, task, max_turns"),
            ({"seed": -1}, "seed"),
            ({"seed": True}, "seed"),
            ({"seed": 1.5}, "seed"),
            ({"seed": "7"}, "seed"),
            ({"index": 10**9}, "index"),
            ({"max_turns": 0}, "max_turns"),
            ({"split": "tests"}, "train"),
            ({"split": ["test"]}, "split"),
            ({"task": "double_t/999"}, "task"),
            ({"task": "double_t/18", "index": 99}, "index"),
            ({"episode_id": "x" * 256}, "episode_id"),
        ],
    )
    def test_a_reset_that_cannot_be_done_as_asked_is_refused_by_name(self, arguments: Any, named: str) -> None:
        maze = session()
        reset(maze, seed=1, episode_id="kept")
        refused = reset(maze, **arguments)
        assert refused["data"]["code"] == "VALIDATION_ERROR"
        assert named in refused["data"]["message"]
        assert state(maze)["episode_id"] == "kept", "the episode stays as it was"

    def test_null_is_as_good_as_nothing(self) -> None:
        assert reset(session(), seed=None, split=None, index=None)["type"] == "observation"

    @pytest.mark.parametrize(("message", "action"), [(5, "5"), (True, "true"), (["x"], '["x"]'), (None, "null")])
    def test_a_reply_that_was_read_as_json_is_a_text_again(self, message: Any, action: str) -> None:
        words = session("wordle")
        reset(words, seed=1)
        assert action in step(words, message)["data"]["observation"]["text"]

    def test_a_fault_of_the_environment_is_no_lost_game(self) -> None:
        class Broken(type(make("maze"))):  # type: ignore[misc]
            def step(self, action: str) -> Any:
                raise EnvironmentFault("the maze has collapsed") if action == "a" else ZeroDivisionError

        for action in ("a", "b"):
            environment = Broken()
            broken = Session(environment, TaskList(environment))
            reset(broken, seed=1)
            error = step(broken, action)
            assert error["data"]["code"] == "EXECUTION_ERROR"
            assert state(broken)["episode_id"] is None
            assert reset(broken, seed=1)["type"] == "observation"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{not json", "INVALID_JSON"),
        ("[" * 100_000, "INVALID_JSON"),
        ("9" * 5000, "INVALID_JSON"),
        ("[]", "VALIDATION_ERROR"),
        ('"reset"', "VALIDATION_ERROR"),
        (b'{"type": "reset"}', "VALIDATION_ERROR"),
        ('{"type": "dance"}', "UNKNOWN_TYPE"),
        ("{}", "UNKNOWN_TYPE"),
        ('{"type": null}', "UNKNOWN_TYPE"),
        ('{"type": ["reset"]}', "UNKNOWN_TYPE"),
        ('{"type": "reset", "data": {}, "id": 1}', "VALIDATION_ERROR"),
        ('{"type": "state", "data": {}}', "VALIDATION_ERROR"),
        ('{"type": "step"}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": null}', "VALIDATION_ERROR"),
        ('{"type": "reset", "data": []}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"message": "x", "other": 1}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"message": "x", "metadata": 1}}', "VALIDATION_ERROR"),
        ('{"type": "reset", "data": {"index": NaN}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"message": "move up"}}', "EXECUTION_ERROR"),
    ],
)
def test_what_is_no_request_is_answered_and_the_session_goes_on(frame: str | bytes, code: str) -> None:
    maze = session()
    assert said(maze, frame)["data"]["code"] == code
    assert reset(maze, seed=0)["type"] == "observation"


def test_half_a_surrogate_pair_is_an_action_like_any_other() -> None:
    maze = session()
    reset(maze, seed=0)
    answer = said(maze, '{"type": "step", "data": {"message": "\\ud800"}}')
    json.dumps(answer).encode("ascii")
    assert answer["type"] == "observation"


# Over the network.


def socket(address: str, path: str = "/ws", **more: Any) -> ClientConnection:
    return connect(f"ws{address.removeprefix('openenv:http')}{path}", proxy=None, **more)


def exchange(line: ClientConnection, frame: Any) -> dict[str, Any]:
    line.send(json.dumps(frame))
    answer: dict[str, Any] = json.loads(line.recv(timeout=20))
    return answer


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("maze", Limits(episodes=2, body_bytes=10_000), protocol="openenv") as address:
        yield address


def ask(address: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
    url = address.removeprefix("openenv:") + path
    return urllib3.request("GET", url) if body is None else urllib3.request("POST", url, json=body)


class TestSockets:
    def test_each_has_an_episode_of_its_own_until_a_farewell(self, address: str) -> None:
        with socket(address) as one, socket(address) as other:
            assert exchange(one, {"type": "reset", "data": {"seed": 1}})["type"] == "observation"
            assert exchange(other, {"type": "state"})["data"]["episode_id"] is None
            one.send('{"type": "close"}')
            with pytest.raises(ConnectionClosed) as left:
                one.recv(timeout=20)
            assert left.value.rcvd is not None
            assert left.value.rcvd.code == 1000

    def test_a_full_server_says_so_and_leaves(self, address: str) -> None:
        with socket(address) as one, socket(address) as two:
            exchange(one, {"type": "state"})
            exchange(two, {"type": "state"})
            with socket(address) as third:
                told = json.loads(third.recv(timeout=20))["data"]
                assert (told["code"], told["active_sessions"], told["max_sessions"]) == ("CAPACITY_REACHED", 2, 2)
                with pytest.raises(ConnectionClosed):
                    third.recv(timeout=20)

    def test_a_frame_that_is_too_long_and_foreign_pages_are_turned_away(self, address: str) -> None:
        with socket(address) as line:
            line.send("x" * 10_001)
            with pytest.raises(ConnectionClosed) as left:
                line.recv(timeout=20)
            assert left.value.rcvd is not None
            assert left.value.rcvd.code == 1009
        for more in ({"origin": "http://evil.example"}, {"path": "/wss"}):
            with pytest.raises(InvalidStatus, match=r"403|404"), socket(address, **more):
                pass

    def test_sessions_of_others_cannot_be_had(self, address: str) -> None:
        with socket(address, "/ws?session_id=1") as line:
            assert json.loads(line.recv(timeout=20))["data"]["code"] == "SESSION_ERROR"


class TestDiscovery:
    def test_what_is_told(self, address: str) -> None:
        spec = make("maze").spec
        assert ask(address, "/health").json() == {"status": "healthy"}
        assert ask(address, "/metadata").json()["name"] == "maze"
        schema = ask(address, "/schema").json()
        assert schema["action"]["required"] == ["message"]
        assert set(schema) == {"action", "observation", "reset_observation", "state"}
        told = ask(address, "/fedse").json()
        assert (told["max_turns"], told["success_above"]) == (spec.max_turns, spec.success_above)
        assert ask(address, "/reset", {}).status == 404

    def test_the_list_of_tasks(self, address: str) -> None:
        tasks = make("maze").tasks("test")
        assert ask(address, "/list_environments").json() == ["maze"]
        assert {"name": "test", "type": "test", "num_tasks": len(tasks)} in ask(address, "/MAZE/splits").json()
        assert ask(address, "/maze/num_tasks", {"split": "test"}).json() == {"num_tasks": len(tasks)}
        assert len(ask(address, "/maze/tasks", {"split": "test"}).json()["tasks"]) == len(tasks)
        one = {"id": tasks[2].id, "index": 2, "split": "test"}
        assert ask(address, "/maze/task", {"split": "test", "index": 2}).json() == {"task": one}
        some = ask(address, "/maze/task_range", {"split": "test", "start": 2, "stop": 3})
        assert some.json() == {"tasks": [one]}

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/chess/splits", None, 404),
            ("/maze/task", {"split": "test", "index": 10**6}, 400),
            ("/maze/task", {"split": "test", "index": -1}, 400),
            ("/maze/tasks", {"split": "tests"}, 400),
            ("/maze/tasks", {}, 422),
            ("/maze/task", {"split": "test", "index": 1, "x": 1}, 422),
            ("/maze/tasks", {"split": "x" * 20_000}, 413),
        ],
    )
    def test_what_is_asked_wrongly(self, address: str, path: str, body: Any, status: int) -> None:
        assert ask(address, path, body).status == status

    def test_there_are_no_tools(self, address: str) -> None:
        codes = {
            json.dumps(request): ask(address, "/mcp", request).json()["error"]["code"]
            for request in ({}, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, {"jsonrpc": "2.0", "method": "x"})
        }
        assert list(codes.values()) == [-32600, -32603, -32601]


def test_an_environment_of_a_third_party_is_served_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_example(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with served("higher_lower", protocol="openenv") as address:
        here, there = make("higher_lower"), make(address)
        task = here.tasks("test")[0]
        assert there.reset(there.tasks("test")[0]) == here.reset(task)
        for _ in range(3):
            assert there.step("5") == here.step("5")
        there.close()
