"""A server of OpenEnv's protocol is an environment like any other; when it fails, that is a fault and no lost game."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fedse.environments import Environment, connection, make, remote
from fedse.environments.base import StepResult
from fedse.environments.review import Review, Seen
from fedse.environments.serving import Limits
from fedse.errors import ConfigError, EnvironmentFault, MismatchFault
from fedse.types import Task
from helpers.openenv_servers import HANG_UP, SILENCE, Reply, seen, stranger
from helpers.served_environments import served

OPTIONS: dict[str, dict[str, Any]] = {"wordle": {"size": 20}}


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BACKOFF", 0.001)


def episode(environment: Environment, task: Task, turns: int) -> list[str | StepResult]:
    """What an episode with the expert says."""
    observation = environment.reset(task)
    heard: list[str | StepResult] = [observation]
    expert = environment.expert(0)
    for _ in range(turns):
        heard.append(environment.step(expert.act(observation)[1]))
        observation = heard[-1].observation
        if heard[-1].done:
            break
    return heard


@pytest.mark.parametrize("name", ["babyai", "maze", "textcraft", "webshop", "wordle"])
def test_our_client_plays_the_same_episode_on_our_server_as_in_process(name: str) -> None:
    here = make(name, **OPTIONS.get(name, {}))
    with served(name, protocol="openenv", **OPTIONS.get(name, {})) as address:
        there = make(address)
        assert there.spec.splits == here.spec.splits
        assert there.spec.max_turns == here.spec.max_turns
        assert there.instruction("concise") == here.instruction("concise")
        assert [task.id for task in there.tasks("test")] == [task.id for task in here.tasks("test")]
        task = here.tasks("test")[3]
        assert there.traits(Task(address, task.id)) == here.traits(task)
        played = episode(there, Task(address, task.id), here.spec.max_turns)
        vain = [Seen(here.reset(task), "I cannot see.", "xyzzy", here.step("xyzzy").observation)]
        assert there.review(vain) == here.review(vain) == [Review(effective=False)]
        assert there.offers(vain) == here.offers(vain) != []
        there.close()
    assert played == episode(here, task, here.spec.max_turns)
    assert played[-1].reward > here.spec.success_above


def test_the_turn_limit_is_the_agents_and_not_the_end_of_the_game() -> None:
    with served("maze", protocol="openenv") as address:
        environment = make(address)
        environment.reset(environment.tasks("test")[0])
        results = [environment.step("stay") for _ in range(environment.spec.max_turns + 3)]
        assert not any(result.done for result in results)
        environment.close()


def test_options_of_the_server_that_local_contradicts_are_refused() -> None:
    with served("textcraft", protocol="openenv", max_depth=1) as address:
        make(address, local={"max_depth": 1})
        with pytest.raises(ConfigError, match="max_depth=1 and not 4"):
            make(address, local={"max_depth": 4})
        with pytest.raises(ConfigError, match="success_above has no effect"):
            make(address, success_above=0.5)


def test_a_full_server_is_tried_again_and_a_closed_socket_makes_room() -> None:
    with served("maze", Limits(episodes=1), protocol="openenv") as address:
        first, second = make(address), make(address, retries=0)
        task = first.tasks("test")[0]
        first.reset(task)
        with pytest.raises(EnvironmentFault, match="All 1 sessions are taken"):
            second.reset(task)
        first.close()
        patient = make(address, retries=12)
        patient.reset(task)
        patient.close()


def test_many_clients_are_served_at_once() -> None:
    wins: list[bool] = []
    together = threading.Barrier(64, timeout=60)

    def play(address: str) -> None:
        environment = make(address)
        environment.reset(Task(address, "double_t/18"))
        together.wait()  # all sockets are open now
        wins.append(environment.step("move down").reward == 1.0)
        environment.close()

    with served("maze", protocol="openenv") as address:
        threads = [threading.Thread(target=play, args=(address,)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wins == [True] * 64


def test_a_server_that_is_restarted_loses_the_episode_but_not_the_environment() -> None:
    with served("maze", protocol="openenv") as address:
        environment = make(address)
        task = environment.tasks("test")[0]
        environment.reset(task)
        environment.step("move up")
    port = int(address.rpartition(":")[2])
    with served("maze", protocol="openenv", port=port):
        with pytest.raises(EnvironmentFault, match="lost"):
            environment.step("move up")
        with pytest.raises(EnvironmentFault, match="no open episode"):
            environment.step("move up")
        assert environment.reset(task)
        assert environment.step("move up").observation
        environment.close()


# Servers that are not fedse's.


def but(*answers: Any) -> Reply:
    """All resets go well; the steps are answered in turn."""
    steps = iter(answers)
    return lambda frame, _: seen("Guess a number.") if frame["type"] == "reset" else next(steps)


def opened(address: str, **options: Any) -> Environment:
    environment = make(address, **{"retries": 0, **options})
    environment.reset(environment.tasks("test")[0])
    return environment


def test_a_stranger_is_played_by_its_schema_with_seeds_for_tasks() -> None:
    with stranger(but(seen("Wrong.", 0.0), seen("Right!", 1.0, True))) as (address, received):
        environment = opened(address)
        spec = environment.spec
        assert (spec.splits, spec.success_above, spec.max_turns) == ({"train": 100, "test": 100}, 0.99, 20)
        assert environment.instruction("full") == "Guess!"
        assert not environment.has_expert
        assert environment.step("4") == StepResult("Wrong.", 0.0, False)
        assert environment.step("5") == StepResult("Right!", 1.0, True)
        with pytest.raises(NotImplementedError):
            environment.expert(0)
        environment.close()
    assert received == [
        {"type": "reset", "data": {"seed": 100}},
        {"type": "step", "data": {"guess": "4"}},
        {"type": "step", "data": {"guess": "5"}},
    ]


def test_partial_credit_is_no_success_and_a_success_that_is_told_must_agree() -> None:
    from fedse.rollout.episode import Episode, EpisodeRequest
    from fedse.types import Source, StopReason

    def played(address: str, **options: Any) -> Any:
        environment = make(address, retries=0, **options)
        run = Episode(environment, EpisodeRequest(environment.tasks("test")[0], 0), instruction="", turns=9)
        run.start()
        while run.stop is None:
            run.reply("Action: 5")
        environment.close()
        return run.trajectory(source=Source.POLICY)

    with stranger(but(seen("Broken rule.", 0.2, True), seen("Close.", 0.9, True, metadata={"success": True}))) as (
        at,
        _,
    ):
        assert played(at).success is False
        told = played(at)
        assert (told.stop, told.success) == (StopReason.ERROR, None)
        assert "success_above" in told.error
    with stranger(but(seen("Close.", 0.9, True, metadata={"success": True}))) as (at, _):
        assert played(at, success_above=0.8).success is True


def test_the_tasks_that_a_stranger_lists_are_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    here = make("maze")
    monkeypatch.setattr(remote, "told_by", lambda *_: None)  # as if the server were not fedse's
    with served("maze", protocol="openenv") as address:
        environment = make(address)
        assert environment.spec.splits == here.spec.splits
        for split in ("train", "test"):
            task = environment.tasks(split)[7]
            assert task.id == f"{split}/7"
            assert environment.reset(task) == here.reset(here.tasks(split)[7])
        environment.close()
        few = make(address, seeds={"train": [0, 2], "test": [2, 3]})
        assert few.spec.splits == {"train": 2, "test": 1}
        assert few.reset(few.tasks("test")[0]) == here.reset(here.tasks("train")[2]), "a seed is an index of train"
        few.close()


@pytest.mark.parametrize(
    ("observation", "options", "shown"),
    [
        ({"prompt": "Go.", "messages": []}, {}, "Go."),
        ({"prompt": "Go.", "messages": [{"content": "a"}, {"content": "b"}]}, {}, "a\nb"),
        ({"question": "Why?"}, {}, "Why?"),
        ({"board": [1, 2], "metadata": {"task": "secret"}}, {}, '{"board": [1, 2]}'),
        ({"text": "no", "board": [1, 2]}, {"observation": "board"}, "[1, 2]"),
    ],
)
def test_what_an_agent_is_shown_of_a_strangers_observation(
    observation: dict[str, Any], options: dict[str, Any], shown: str
) -> None:
    answer = {"type": "observation", "data": {"observation": observation, "reward": None, "done": False}}
    with stranger(lambda frame, _: answer) as (address, _):
        environment = make(address, retries=0, **options)
        assert environment.reset(environment.tasks("test")[0]) == shown
        environment.close()


def test_messages_that_were_shown_are_not_shown_again() -> None:
    def reply(frame: dict[str, Any], before: int) -> dict[str, Any]:
        messages = [{"content": str(number)} for number in range(before + 1)]
        return {"type": "observation", "data": {"observation": {"messages": messages}, "reward": 0, "done": False}}

    with stranger(reply) as (address, _):
        environment = opened(address)
        assert environment.step("x").observation == "1"
        assert environment.step("x").observation == "2"
        environment.close()


def test_an_action_of_several_fields_is_a_json_object_in_the_agents_text() -> None:
    schema = {"action": {"required": ["row", "column"], "properties": {}}}
    with stranger(but(seen("ok", 0)), {"/schema": schema}) as (address, received):
        environment = opened(address)
        assert "JSON object" in environment.step("row 1").observation
        assert environment.step('{"row": 1, "column": 2}').observation == "ok"
        environment.close()
    assert received[1:] == [{"type": "step", "data": {"row": 1, "column": 2}}]


def test_an_action_that_is_not_understood_is_the_agents_mistake() -> None:
    error = {"message": "Invalid message", "code": "VALIDATION_ERROR", "errors": [{"loc": ["guess"], "msg": "a digit"}]}
    with stranger(but({"type": "error", "data": error}, seen("Wrong.", 0))) as (address, _):
        environment = opened(address)
        assert environment.step("x") == StepResult("Invalid message; guess: a digit", 0.0, False)
        assert environment.step("4").observation == "Wrong."
        environment.close()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (HANG_UP, "lost"),
        (SILENCE, "no answer within"),
        ("{", "is not JSON"),
        (b"\x00", "no text"),
        ([], "no frame"),
        ({"type": "observation"}, "no frame"),
        ({"type": "state", "data": {}}, "no observation"),
        ({"data": {}}, "no frame"),
        (seen("x", 0, 1), "no observation"),
        (seen("x", 0, None), "no observation"),
        (seen("x", "1", False), "no observation"),
        (seen("x", None, True), "without a reward"),
        ({"type": "error", "data": {"message": "reset first", "code": "EXECUTION_ERROR"}}, "reset first"),
        ({"type": "error", "data": {}}, "None"),
    ],
)
def test_a_bad_answer_is_a_fault_and_never_the_next_ones(answer: Any, complaint: str) -> None:
    with stranger(but(answer, seen("late", 1.0, True))) as (address, received):
        environment = opened(address, timeout=0.5)
        with pytest.raises(EnvironmentFault, match=complaint):
            environment.step("4")
        with pytest.raises(EnvironmentFault, match="no open episode"):
            environment.step("5")
        assert environment.reset(environment.tasks("test")[1]) == "Guess a number."
        environment.close()
    assert [frame["type"] for frame in received] == ["reset", "step", "reset"]


def test_a_reward_that_is_null_before_the_end_is_nothing() -> None:
    with stranger(but(seen("x", None), seen("y", True, True))) as (address, _):
        environment = opened(address)
        assert environment.step("4").reward == 0.0
        assert environment.step("4") == StepResult("y", 1.0, True)
        environment.close()


def test_an_answer_that_trickles_in_is_late_as_a_whole() -> None:
    def reply(frame: dict[str, Any], _: int) -> Any:
        return seen("x" * 40, 0)

    with stranger(reply, trickle=True) as (address, _):
        environment = make(address, retries=0, timeout=0.5)
        with pytest.raises(EnvironmentFault, match="no answer within"):
            environment.reset(environment.tasks("test")[0])
        environment.close()


def test_resets_are_tried_again_on_a_new_socket_and_steps_are_not() -> None:
    answers = iter([HANG_UP, {"type": "error", "data": {"code": "CAPACITY_REACHED", "message": "full"}}, seen("a")])
    with stranger(lambda frame, _: next(answers)) as (address, received):
        environment = make(address, retries=2)
        assert environment.reset(environment.tasks("test")[0]) == "a"
        environment.close()
    assert len(received) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"success_above": 0},
        {"success_above": True},
        {"max_turns": 0},
        {"max_response_tokens": 1.5},
        {"action": 3},
        {"seeds": {"train": [0, 3]}},
        {"seeds": {"train": [3, 0], "test": [0, 1]}},
        {"timeout": 0},
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make("openenv:http://127.0.0.1:1", **options)


def test_who_asks_is_told_in_the_handshake_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_AUTH", "token-1")
    told: list[str | None] = []
    with stranger(but()) as (address, _):
        from fedse.environments.openenv import client

        original = client.Socket
        monkeypatch.setattr(
            client,
            "Socket",
            lambda at, **given: told.append(given["headers"].get("Authorization")) or original(at, **given),
        )
        opened(address, auth_env="MY_AUTH").close()
    assert told == ["Bearer token-1"]


def test_a_dead_server_and_one_of_another_protocol_are_faults() -> None:
    with pytest.raises(EnvironmentFault, match="see whether the server runs"):
        make("openenv:http://127.0.0.1:1", retries=0)
    with stranger(but(), {"/schema": []}) as (address, _), pytest.raises(EnvironmentFault, match="no OpenEnv server"):
        make(address)


def test_no_expert_speaks_where_the_server_plays_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedse.environments.maze import Maze

    original = Maze.reset
    with served("maze", protocol="openenv") as address:
        environment = make(address)
        monkeypatch.setattr(Maze, "reset", lambda self, task: "a dragon")
        environment.reset(environment.tasks("test")[0])
        monkeypatch.setattr(Maze, "reset", original)
        with pytest.raises(MismatchFault, match="plays something else than maze:"):
            environment.expert(0)
        environment.close()
