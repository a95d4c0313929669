"""A server is an environment like any other; when it fails, that is a fault and no lost game."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fedse import http
from fedse.environments import Environment, connection, environment_class, environment_names, make, remote
from fedse.environments.agentgym.client import AgentGymEnvironment
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.base import StepResult
from fedse.environments.maze import Maze
from fedse.environments.maze.agentgym import MazeSession
from fedse.environments.review import Review, Seen
from fedse.environments.serving import Limits
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.rollout.scripted import demonstrate
from fedse.types import Task, Trajectory
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
        vain = [Seen(here.reset(tasks[number]), "I cannot see.", "xyzzy", here.step("xyzzy").observation)]
        assert there.review(vain) == here.review(vain) == [Review(effective=False)]
        assert there.offers(vain) == here.offers(vain) != []
        there.close()
    assert played == episode(here, tasks[number], here.spec.max_turns)
    assert played[-1].reward > here.spec.success_above


def test_a_server_has_the_facts_of_its_kind_under_its_own_name() -> None:
    with served("textcraft", max_depth=1) as address:
        remote, local = make(address), make("textcraft", max_depth=1)
        assert remote.spec.name == type(remote).name == address
        assert remote.spec.splits == local.spec.splits
        assert remote.spec.max_turns == local.spec.max_turns
        assert environment_class(address) is type(remote)
        with pytest.raises(UnknownNameError):
            remote.tasks("no such split")
        with pytest.raises(ConfigError, match="did you mean max_depth"):
            make(address, local={"max_dept": 1})


def test_a_servers_options_are_taken_over_and_others_are_refused() -> None:
    with served("textcraft", max_depth=1) as address:
        remote = make(address)
        assert remote.spec.splits == {
            split: len(tasks) for split, tasks in counterpart_of(make("textcraft", max_depth=1)).tasks().items()
        }
        assert make(address, local={"max_depth": 1}).spec.splits == remote.spec.splits
        with pytest.raises(ConfigError, match="max_depth=1 and not 4") as caught:
            make(address, local={"max_depth": 4})
        assert "local" in caught.value.mend


LIMITED = [
    ("maze", {"max_path": 5}),
    ("textcraft", {"max_depth": 1}),
    ("textcraft", {"missing": "1/4"}),
    ("webshop", {"max_options": 0}),
    ("babyai", {"levels": [1]}),
]


@pytest.mark.parametrize(("name", "options"), LIMITED)
def test_what_a_servers_options_leave_out_is_refused_there(name: str, options: dict[str, Any]) -> None:
    limited = counterpart_of(make(name, **options))
    with served(name) as everything, served(name, **options) as some:
        assert limited.left_out
        for number in [*list(limited.left_out)[:3], *list(limited.numbered)[:3]]:
            at_all, here = make(everything), make(some)
            assert at_all.reset(Task(everything, str(number)))
            if number in limited.left_out:
                with pytest.raises(EnvironmentFault, match="leave out the task"):
                    here.reset(Task(some, str(number)))
            else:
                assert here.reset(Task(some, str(number)))
            at_all.close()
            here.close()


def test_options_without_effect_in_the_protocol_are_refused() -> None:
    with pytest.raises(ConfigError, match="maze: only would change nothing"), served("maze", only=7):
        pass


def test_a_server_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Maze, "spec", property(lambda self, spec=Maze.spec: replace(spec.fget(self), version=99)))
    with served("maze") as address:
        monkeypatch.undo()
        with pytest.raises(EnvironmentFault, match="serves version 99 of 'maze', here is version 2"):
            make(address)


def test_files_among_the_options_are_told_by_name_and_need_not_be_here(tmp_path: Path) -> None:
    words = tmp_path / "there" / "words.txt"
    words.parent.mkdir()
    words.write_text("apple\nbread\ncrane\ndelta\neagle\n")
    here = tmp_path / "words.txt"
    here.write_text(words.read_text())
    with served("wordle", vocab=str(words)) as address:
        answer = urllib3.request("GET", address.removeprefix("agentgym:") + "/fedse").json()
        assert answer["options"]["vocab"] == {"file": "words.txt"}
        assert str(tmp_path) not in repr(answer)
        assert "apple" in make(address).instruction("concise")
        make(address, local={"vocab": str(here)})
        here.rename(tmp_path / "others.txt")
        with pytest.raises(ConfigError, match=r"words\.txt"):
            make(address, local={"vocab": str(tmp_path / "others.txt")})


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
def scripted(
    reply: Callable[[str, int], tuple[int, Any] | None], *, seen: list[str | None] | None = None, trickle: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """A maze server that answers as told: (path, times it was asked) → (status, JSON); ``None`` hangs up.

    It notes in ``seen`` as whom it is asked, and sends the head or the body of a step's answer byte by byte.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            if seen is not None:
                seen.append(self.headers.get("Authorization"))
            answer = reply(self.path, asked.count(self.path))
            if answer is None:
                self.close_connection = True
                return
            body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
            head = f"HTTP/1.1 {answer[0]} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            slow = trickle if self.path == "/maze/step" else ""
            with contextlib.suppress(OSError):  # who waits no longer hangs up
                for part, is_slow in ((head, slow == "head"), (body, slow == "body")):
                    for piece in [part[at : at + 1] for at in range(len(part))] if is_slow else [part]:
                        self.wfile.write(piece)
                        if is_slow:
                            time.sleep(0.05)

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
        if asked not in GOOD:
            return 404, {"detail": "Not Found"}
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
        ((200, b'{"observation": "x", "reward": 1' + b"0" * 400 + b', "done": false}'), "no finite number"),
        ((200, b'{"observation": "x", "reward": NaN, "done": false}'), "no finite number"),
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
        return (200, GOOD[path]) if path in GOOD else (404, {})

    with scripted(reply) as (address, _):
        environment = opened(address, timeout=0.3)
        began = time.monotonic()
        with pytest.raises(EnvironmentFault, match="timed out"):
            environment.step("move up")
        assert time.monotonic() - began < 4
        release.set()


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_trickles_in_is_late_as_a_whole(part: str) -> None:
    # Some two seconds for the whole, and never more than a twentieth without a byte.
    with scripted(but("/maze/step"), trickle=part) as (address, _):
        environment = opened(address, timeout=0.4)
        with pytest.raises(EnvironmentFault, match="timed out"):
            environment.step("move up")


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_BYTES", 2000)
    long = {"observation": "x" * 5000, "reward": 0, "done": False}
    with scripted(but("/maze/step", (200, long))) as (address, _):
        environment = opened(address)
        with pytest.raises(EnvironmentFault, match="more than 2000 bytes"):
            environment.step("move up")


def test_an_error_that_is_null_is_none() -> None:
    with scripted(but("/maze/step", (200, GOOD["/maze/step"] | {"error": None}))) as (address, _):
        assert opened(address).step("move up").observation == "elsewhere"


def test_half_a_surrogate_pair_in_an_observation_is_replaced() -> None:
    with scripted(but("/maze/step", (200, GOOD["/maze/step"] | {"observation": "a \ud83d b \ud83d\ude00"}))) as (
        address,
        _,
    ):
        assert opened(address).step("move up").observation == "a \ufffd b 😀"


# Who asks.


@pytest.mark.parametrize(
    ("variable", "sent"),
    [("me:pa:ss", "Basic " + base64.b64encode(b"me:pa:ss").decode()), ("tok-1.2", "Bearer tok-1.2")],
)
def test_credentials_come_from_an_environment_variable(
    variable: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_AUTH", variable)
    seen: list[str | None] = []
    with scripted(but("/maze/step"), seen=seen) as (address, _):
        environment = opened(address, auth_env="MY_AUTH")
        environment.step("move up")
        environment.close()
    assert seen
    assert set(seen) == {sent}
    assert variable not in repr(environment.spec)


def test_credentials_come_from_netrc_for_its_host_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    sent = "Basic " + base64.b64encode(b"me:secret").decode()
    for host, expected in (("127.0.0.1", sent), ("elsewhere.example", None), ("default", None)):
        file.write_text(
            "default login me password secret" if host == "default" else f"machine {host} login me password secret"
        )
        seen: list[str | None] = []
        with scripted(but("/maze/step"), seen=seen) as (address, _):
            opened(address).close()
        assert set(seen) == {expected}
    file.write_text("machine x login\nsecret? nonsense secret")
    with pytest.raises(ConfigError) as caught:
        make("agentgym:http://127.0.0.1:1/maze")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "two words", "ümlaut", "a\nb"])
def test_a_variable_without_credentials_is_refused_without_telling_it(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_AUTH", value)
    with pytest.raises(ConfigError, match="MY_AUTH") as caught:
        make("agentgym:http://127.0.0.1:1/maze", retries=0, auth_env="MY_AUTH")
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://me:secret@127.0.0.1:1/maze", "http://secret@host", "http://me:sec/ret@host"]
)
def test_an_address_with_credentials_is_refused_and_they_are_not_printed(address: str) -> None:
    with pytest.raises(ConfigError, match="netrc") as caught:
        make(f"agentgym:{address}")
    assert "secret" not in str(caught.value)
    assert "sec/ret" not in str(caught.value)


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


@pytest.mark.parametrize("path", ["", "/maze"])
def test_a_dead_server_is_a_fault_whether_or_not_it_must_be_asked_for_its_kind(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_answers", {})  # an earlier server may have had the same port
    with pytest.raises(EnvironmentFault, match="see whether the server runs"):
        make(f"agentgym:http://127.0.0.1:{dead_port()}{path}", retries=1)


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


def demonstrations(environment: Environment, count: int, met: list[EnvironmentFault]) -> list[Trajectory]:
    tasks = environment.tasks("train")
    return demonstrate(environment, tasks, count, instruction="", seed=0, on_lost=met.append)


def test_tasks_on_which_a_server_plays_something_else_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = MazeSession.reset
    met: list[EnvironmentFault] = []
    with served("maze") as address:
        environment = make(address)
        tasks = environment.tasks("train")
        games = [int(task.id) for task in tasks[:2]]
        monkeypatch.setattr(
            MazeSession,
            "reset",
            lambda self, **kw: {"observation": "a dragon"} if kw["game"] in games else original(self, **kw),
        )
        found = demonstrations(environment, 4, met)
        environment.close()
    assert [trajectory.task for trajectory in found] == tasks[2:6]
    assert [f"task {game}:" in fault.what for game, fault in zip(games, met, strict=True)] == [True, True]


@pytest.mark.parametrize(("every", "refused"), [(2, False), (8, True)])
def test_tasks_that_a_server_leaves_out_are_counted_and_most_are_refused(
    every: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with other options that cannot tell them: it has one of so many of our tasks."""
    original = MazeSession.reset
    met: list[EnvironmentFault] = []
    with served("maze") as address:
        environment = make(address)
        kept = {int(task.id) for task in environment.tasks("train")[::every]}

        def reset(self: MazeSession, **kw: Any) -> Any:
            if kw["game"] not in kept:
                raise EnvironmentFault("the options of this server leave out the task")
            return original(self, **kw)

        monkeypatch.setattr(MazeSession, "reset", reset)
        if refused:
            with pytest.raises(EnvironmentFault, match=r"4 of 5 tasks of .* were lost to faults[\s\S]*other options"):
                demonstrations(environment, 8, met)
        else:
            assert len(demonstrations(environment, 4, met)) == 4
        environment.close()
    assert len(met) == (4 if refused else 3)
    assert "leave out the task" in met[0].what


def test_a_server_that_plays_something_else_on_more_than_a_few_tasks_is_refused() -> None:
    met: list[EnvironmentFault] = []
    with scripted(but("/maze/step")) as (address, _):
        environment = make(f"{address}/maze")
        with pytest.raises(EnvironmentFault, match="on 4 of 4 tasks the server"):
            demonstrations(environment, 4, met)
        environment.close()
    assert len(met) == 4


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
