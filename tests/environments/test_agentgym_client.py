"""A server is an environment like any other; when it fails, that is a fault and no lost game."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fedse.environments import Environment, environment_class, environment_names, make
from fedse.environments.agentgym import connection
from fedse.environments.agentgym.client import AgentGymEnvironment
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.agentgym.slots import Limits
from fedse.environments.base import StepResult
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.types import Task
from helpers.served_environments import served

OPTIONS: dict[str, dict[str, Any]] = {"wordle": {"size": 20}}


def episode(environment: Environment, task: Task, turns: int) -> list[str | StepResult]:
    """What an episode with the expert, and one wrong action in front, says."""
    observation = environment.reset(task)
    heard: list[str | StepResult] = [observation]
    expert = environment.expert(0)
    for _ in range(turns):
        heard.append(environment.step(expert.act(observation)[1]))
        observation = heard[-1].observation
        if heard[-1].done:
            break
    return heard


@pytest.mark.parametrize(
    "name", sorted({"maze", "wordle", "textcraft", "webshop", "babyai"} & set(environment_names()))
)
def test_our_client_plays_the_same_episode_on_our_server_as_in_process(name: str) -> None:
    here = make(name, **OPTIONS.get(name, {}))
    with served(name, **OPTIONS.get(name, {})) as address:
        there = make(address)
        tasks = counterpart_of(here).tasks()["test"]
        assert [int(task.id) for task in there.tasks("test")] == list(tasks)
        assert there.instruction("full") == here.instruction("full")
        number = list(tasks)[3]
        played = episode(there, Task(address, str(number)), here.spec.max_turns)
        there.close()
    assert played == episode(here, tasks[number], here.spec.max_turns)
    assert played[-1].reward > here.spec.success_above


def test_a_server_has_the_facts_of_its_kind_under_its_own_name() -> None:
    with served("textcraft") as address:
        remote, local = make(address, local={"max_depth": 1}), make("textcraft", max_depth=1)
        assert remote.spec.name == type(remote).name == address
        assert remote.spec.splits == local.spec.splits
        assert remote.spec.max_turns == local.spec.max_turns
        assert environment_class(address) is type(remote)
        with pytest.raises(UnknownNameError):
            remote.tasks("no such split")
        with pytest.raises(ConfigError, match="did you mean max_depth"):
            make(address, local={"max_dept": 1})


def test_traits_are_those_of_the_same_task_here() -> None:
    with served("maze") as address:
        remote = make(address)
        assert remote.traits(Task(address, "3")) == make("maze").traits(Task("maze", "double_t/3"))
        with pytest.raises(EnvironmentFault, match="nothing is known"):
            remote.traits(Task(address, "999"))


def test_slots_are_kept_for_the_next_episode_and_closed_in_the_end() -> None:
    with served("maze", Limits(episodes=1)) as address:
        first = make(address)
        for task in first.tasks("test")[:2]:
            first.reset(task)
        second = make(address, retries=0)
        with pytest.raises(EnvironmentFault, match="503"):
            second.reset(second.tasks("test")[0])
        first.close()
        second.reset(second.tasks("test")[0])
        second.close()
        second.close()


def test_many_clients_are_served_at_once() -> None:
    wins: list[bool] = []

    def play(address: str) -> None:
        environment = make(address)
        environment.reset(Task(address, "18"))
        time.sleep(0.01)
        wins.append(environment.step("move down").reward == 1.0)
        environment.close()

    with served("maze") as address:
        threads = [threading.Thread(target=play, args=(address,)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wins == [True] * 64


# What goes wrong.


@contextmanager
def scripted(reply: Callable[[str, int], tuple[int, Any] | None]) -> Iterator[tuple[str, list[str]]]:
    """A maze server that answers as told: (path, times it was asked) → (status, JSON); ``None`` hangs up."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            answer = reply(self.path, asked.count(self.path))
            if answer is None:
                self.close_connection = True
                return
            body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 (the library's name)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"agentgym:http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


GOOD: dict[str, Any] = {
    "/maze/create": {"id": 4},
    "/maze/reset": {"observation": "somewhere"},
    "/maze/step": {"observation": "elsewhere", "reward": 0, "done": False},
    "/maze/close": True,
}


def but(path: str, *answers: tuple[int, Any] | None) -> Callable[[str, int], tuple[int, Any] | None]:
    """All goes well, but one path answers these in turn, and well after them."""

    def reply(asked: str, times: int) -> tuple[int, Any] | None:
        return answers[times - 1] if asked == path and times <= len(answers) else (200, GOOD[asked])

    return reply


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF", 0.001)


def opened(address: str, **options: Any) -> AgentGymEnvironment:
    environment = make(f"{address}/maze", **options)
    assert isinstance(environment, AgentGymEnvironment)
    environment.reset(Task(environment.name, "3"))
    return environment


@pytest.mark.parametrize("path", ["/maze/create", "/maze/reset"])
@pytest.mark.parametrize("trouble", [(503, {}), None], ids=["busy", "hung up"])
def test_what_may_be_repeated_is_tried_again(path: str, trouble: Any) -> None:
    with scripted(but(path, trouble, trouble)) as (address, asked):
        opened(address, retries=2)
        assert asked.count(path) == 3


def test_a_step_is_tried_again_only_if_it_was_refused() -> None:
    with scripted(but("/maze/step", (503, {}))) as (address, asked):
        assert opened(address).step("move up").observation == "elsewhere"
        assert asked.count("/maze/step") == 2
    with scripted(but("/maze/step", None)) as (address, asked):
        environment = opened(address)
        with pytest.raises(EnvironmentFault, match=r"POST .*/maze/step"):
            environment.step("move up")
        assert asked.count("/maze/step") == 1
        with pytest.raises(EnvironmentFault, match="no open episode"):
            environment.step("move up")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((200, {"error": "The task with environment 4 has been deleted."}), "has been deleted"),
        ((500, {}), "status 500"),
        ((422, {"detail": []}), "status 422"),
        ((302, {}), "302|has no observation"),
        ((200, b"<html>"), "is not JSON"),
        ((200, b"\xff"), "decode"),
        ((200, []), "has no done"),
        ((200, {"observation": "x", "reward": 0}), "has no done"),
        ((200, {"observation": 3, "reward": 0, "done": False}), "has no observation"),
        ((200, {"observation": "x", "reward": None, "done": False}), "has no reward"),
        ((200, {"observation": "x", "reward": True, "done": False}), "has no reward"),
    ],
)
def test_a_bad_answer_is_a_fault(answer: tuple[int, Any], complaint: str) -> None:
    with scripted(but("/maze/step", answer)) as (address, _):
        environment = opened(address)
        with pytest.raises(EnvironmentFault, match=complaint):
            environment.step("move up")


def test_a_server_that_does_not_answer_in_time_is_a_fault() -> None:
    release = threading.Event()

    def reply(path: str, times: int) -> tuple[int, Any]:
        if path == "/maze/step":
            release.wait(5)
        return 200, GOOD[path]

    with scripted(reply) as (address, _):
        environment = opened(address, timeout=0.3)
        began = time.monotonic()
        with pytest.raises(EnvironmentFault, match="timed out"):
            environment.step("move up")
        assert time.monotonic() - began < 4
        release.set()


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


def test_a_dead_server_is_a_fault_whether_or_not_it_must_be_asked_for_its_kind() -> None:
    port = dead_port()
    with pytest.raises(EnvironmentFault, match="see whether the server runs"):
        make(f"agentgym:http://127.0.0.1:{port}", retries=1)
    environment = make(f"agentgym:http://127.0.0.1:{port}/maze", retries=1)
    with pytest.raises(EnvironmentFault, match="/maze/create"):
        environment.reset(environment.tasks("test")[0])
    environment.close()


def test_an_episode_on_a_server_that_dies_has_no_outcome() -> None:
    from fedse.rollout.episode import Episode, EpisodeRequest
    from fedse.types import Source, StopReason

    with scripted(but("/maze/step", (200, GOOD["/maze/step"]), None)) as (address, _):
        environment = make(f"{address}/maze", retries=0)
        request = EpisodeRequest(Task(environment.name, "3"), 0)
        played = Episode(environment, request, instruction="", turns=9)
        played.start()
        while played.stop is None:
            played.reply("Action: move up")
    trajectory = played.trajectory(source=Source.POLICY)
    assert trajectory.stop is StopReason.ERROR
    assert trajectory.success is None
    assert len(trajectory.turns) == 1


def test_a_server_of_several_kinds_and_a_stranger_are_told_apart() -> None:
    with (
        scripted(lambda path, times: (200, "This is environment LMRL-Gym.")) as (address, _),
        pytest.raises(EnvironmentFault, match=r"several environments[\s\S]*/maze or .*/wordle"),
    ):
        make(address)
    with scripted(lambda path, times: (200, {"a": 1})) as (address, _), pytest.raises(EnvironmentFault, match="no Ag"):
        make(address)
    with (
        scripted(lambda path, times: (200, "This is environment chess.")) as (address, _),
        pytest.raises(EnvironmentFault, match="not installed"),
    ):
        make(address)


def test_no_expert_speaks_where_the_server_plays_something_else() -> None:
    with scripted(but("/maze/step")) as (address, _):
        environment = opened(address)
        with pytest.raises(EnvironmentFault, match="plays something else than maze:double_t/3"):
            environment.expert(0)


@pytest.mark.parametrize(
    "address",
    ["", "localhost:80", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/?a=1", "http://[", "x"],
)
def test_an_address_of_the_wrong_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        make(f"agentgym:{address}")


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "1"}, {"timeout": True}, {"retries": -1}, {"retries": 1.5}, {"local": 3}]
)
def test_a_bad_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make("agentgym:http://127.0.0.1:1/maze", **options)


def test_a_servers_own_words_are_told_to_the_agent() -> None:
    with served("wordle", size=200) as address:
        remote = make(address)
        assert remote.instruction("concise") == make("wordle", size=200).instruction("concise")
        remote.close()


def test_a_task_that_is_no_number_and_one_the_server_lacks_are_faults() -> None:
    with served("maze") as address:
        environment = make(address)
        for task in (Task(address, "double_t/3"), Task(address, "999"), Task("maze", "3")):
            with pytest.raises(EnvironmentFault):
                environment.reset(task)
        environment.close()
