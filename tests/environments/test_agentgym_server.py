"""The server speaks AgentGym's protocol, payload for payload, and keeps within its limits."""

from __future__ import annotations

import gzip
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from fedse.environments import environment_names, make
from fedse.environments.agentgym.dialects import DIALECTS, dialect_of
from fedse.environments.agentgym.server import app
from fedse.environments.agentgym.slots import SlotTable
from fedse.environments.serving import Limits, listen
from helpers.asgi import Asgi
from helpers.example_package import install_example
from helpers.recordings import recording

WON = "The task with environment 0 has finished."


def server(name: str, limits: Limits | None = None, **options: Any) -> Asgi:
    return Asgi(app(make(name, **options), limits))


class TestMaze:
    def test_an_episode_from_create_to_close(self) -> None:
        maze = server("maze")
        assert maze.get("/").json == "This is environment LMRL-Gym."
        assert maze.post("/maze/create").json == {"id": 0}
        observation = (
            "The goal is at position 8, 6. Your current position is at position 7, 6. "
            "There are walls to your right, to your left."
        )
        assert maze.post("/maze/reset", {"id": 0, "game": 18}).json == {"observation": observation}
        assert maze.get("/maze/observation?id=0").json == observation
        step = maze.post("/maze/step", {"id": 0, "action": "move left"}).json
        assert step == {"observation": observation, "reward": 0, "done": False}
        assert maze.get("/maze/detail?id=0").json == {
            "maze_name": "double_t_maze",
            "observation": observation,
            "done": False,
            "reward": 0,
            "deleted": False,
        }
        won = maze.post("/maze/step", {"id": 0, "action": "move down"}).json
        assert won == {"observation": "Success\n", "reward": 1.0, "done": True}
        for told in ("observation", "detail"):
            assert maze.get(f"/maze/{told}?id=0").json == {"error": WON}
        assert maze.post("/maze/step", {"id": 0, "action": "move down"}).json == {"error": WON}
        assert maze.post("/maze/close", {"id": 0}).json is True
        assert maze.post("/maze/close", {"id": 0}).json is False
        gone = {"error": "The task with environment 0 has been deleted."}
        assert maze.post("/maze/reset", {"id": 0, "game": 18}).json == gone

    def test_actions_and_wrong_games(self) -> None:
        maze = server("maze")
        assert maze.get("/maze/available_actions").json == ["move left", "move right", "move up", "move down"]
        maze.post("/maze/create")
        assert maze.post("/maze/reset", {"id": 0, "game": 26}).json == {"error": "The game 26 is not valid."}
        silent = {"error": "There is no open episode in environment 0: reset it first."}
        assert maze.get("/maze/observation?id=0").json == silent


class TestWordle:
    def test_an_episode_with_its_words_told_before_the_first_guess_only(self) -> None:
        wordle = server("wordle")
        assert wordle.post("/wordle/create", {}).json == {"id": 0}
        words = wordle.get("/wordle/filtered_vocab?id=0").json
        assert len(words) == 40
        reset = wordle.post("/wordle/reset", {"id": 0, "seed": 7}).json
        assert reset == {"id": 0, "observation": "Let's start Wordle!"}
        step = wordle.post("/wordle/step", {"id": 0, "action": " ".join(words[0])}).json
        assert set(step) == {"observation", "reward", "done"}
        assert "error" in wordle.get("/wordle/filtered_vocab?id=0").json
        assert wordle.get("/wordle/detail?id=0").json == {
            "done": False,
            "reward": 0,
            "deleted": False,
            "seed": 7,
            "observation": step["observation"],
        }

    def test_options_decide_what_is_served(self) -> None:
        wordle = server("wordle", size=20, parity=True)
        wordle.post("/wordle/create")
        wordle.post("/wordle/reset", {"id": 0, "seed": 7})
        wordle.post("/wordle/step", {"id": 0, "action": "crane"})
        assert len(wordle.get("/wordle/filtered_vocab?id=0").json) <= 20


class TestTextCraft:
    def test_create_opens_the_episode_of_its_own_number(self) -> None:
        textcraft = server("textcraft")
        created = textcraft.post("/create", {"commands": None, "goal": None, "minecraft_dir": "x"}).json
        assert created["id"] == 0
        assert (created["done"], created["reward"]) == (False, 0)
        assert textcraft.get("/observation?id=0").json == created["observation"]
        assert textcraft.post("/reset", {"id": 0}).json == created
        goal = textcraft.get("/goal?id=0").json
        assert created["observation"].endswith(f"craft {goal.removeprefix('minecraft:').replace('_', ' ')}.")
        assert textcraft.get("/commands?id=0").json in created["observation"]
        step = textcraft.post("/step", {"id": 0, "action": "inventory"}).json
        known = {"observation": "Inventory: You are not carrying anything.", "reward": 0, "done": False}
        assert step == known
        assert textcraft.get("/detail?id=0").json == known | {"deleted": False}
        assert textcraft.post("/create", {}).json["id"] == 1


class TestWebShop:
    def test_values_come_without_names_and_slots_are_listed(self) -> None:
        webshop = server("webshop")
        assert webshop.get("/").json == "ok"
        assert webshop.post("/create").json == 0
        assert webshop.post("/create").json == 1
        assert webshop.get("/list_envs").json == [0, 1]
        [page, nothing] = webshop.post("/reset", {"env_idx": 1, "session_id": 3}).json
        assert nothing is None
        assert webshop.get("/observation?env_idx=1").json == page
        assert webshop.get("/available_actions?env_idx=1").json == {"has_search_bar": True, "clickables": ["search"]}
        assert webshop.get("/instruction_text?env_idx=1").json in page
        step = webshop.post("/step", {"env_idx": 1, "action": "search[lamp]"}).json
        assert set(step) == {"state", "reward", "done", "info"}
        assert webshop.get("/observation?env_idx=1").json == step["state"]
        assert webshop.post("/close", {"env_idx": 1}).json == {"closed": True}
        assert webshop.post("/close", {"env_idx": 1}).json == {"closed": False}
        assert webshop.get("/list_envs").json == [0]

    def test_questions_before_a_reset_are_answered_with_an_error(self) -> None:
        webshop = server("webshop")
        webshop.post("/create")
        for question in ("available_actions", "instruction_text", "observation"):
            assert "error" in webshop.get(f"/{question}?env_idx=0").json
        assert "error" in webshop.post("/reset", {"env_idx": 0, "session_id": -1}).json


def play_over_http(maze: Asgi, name: str, record: dict[str, Any], slot: int) -> None:
    dialect = dialect_of(name)
    payload = maze.post(dialect.path("reset"), {"id": slot, **record["reset_kwargs"]}).json
    if "reset" in record:
        assert json.dumps(payload, sort_keys=True) == json.dumps(record["reset"], sort_keys=True)
    for step in record["steps"]:
        payload = maze.post(dialect.path("step"), {"id": slot, "action": step["action"]}).json
        recorded = {field: step[field] for field in (*payload, "error") if field in step}
        assert json.dumps(payload, sort_keys=True) == json.dumps(recorded, sort_keys=True)


@pytest.mark.parametrize(
    ("name", "file", "options", "chosen"),
    [
        ("maze", "maze", {}, lambda record: True),
        ("wordle", "wordle_bip39", {"size": 40}, lambda record: record.get("vocab") == "bip39_40"),
        ("babyai", "babyai", {}, lambda record: record["level"] < 4),
    ],
    ids=["maze", "wordle", "babyai"],
)
def test_recordings_of_the_originals_are_reproduced_over_the_protocol(
    name: str, file: str, options: dict[str, Any], chosen: Any
) -> None:
    if name not in environment_names():
        pytest.skip(f"{name} is not installed")
    lines = gzip.decompress(recording(file).read_bytes()).decode().splitlines()
    records = [record for line in lines if "env" in (record := json.loads(line)) and chosen(record)]
    asgi = server(name, parity=True, **options)
    asgi.post(dialect_of(name).path("create"))
    for record in records:
        # The originals quote the slot in messages; all of a recording were made in slot 0.
        play_over_http(asgi, name, record, 0)
    assert len(records) > 20


class TestBabyAI:
    @pytest.fixture
    def babyai(self) -> Asgi:
        if "babyai" not in environment_names():
            pytest.skip("babyai is not installed")
        return server("babyai")

    def test_an_observation_states_the_goal_again(self, babyai: Asgi) -> None:
        assert babyai.post("/create").json == {"id": 0}
        reset = babyai.post("/reset", {"id": 0, "data_idx": 1840}).json
        assert set(reset) == {"observation", "reward", "score", "deleted", "done"}
        assert babyai.get("/observation?id=0").json == reset
        step = babyai.post("/step", {"id": 0, "action": "turn right"}).json
        assert set(step) == {"observation", "reward", "score", "done"}
        goal = reset["observation"].partition("\n")[0]
        shown = babyai.get("/observation?id=0").json
        assert shown == step | {"observation": f"{goal}\n{step['observation']}", "deleted": False}


class TestThirdParty:
    def test_an_environment_that_agentgym_lacks_is_served_plainly(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        install_example(tmp_path)
        try:
            game = server("higher_lower", largest=4)
            assert game.get("/").json == "This is environment higher_lower."
            assert game.post("/create").json == {"id": 0}
            opening = "I have chosen a number between 1 and 4."
            assert game.post("/reset", {"id": 0, "data_idx": 1099}).json == {
                "id": 0,
                "observation": opening,
                "done": False,
                "reward": 0,
            }
            guesses = [game.post("/step", {"id": 0, "action": str(guess)}).json for guess in (1, 2, 3, 4)]
            assert {"observation": "Found.", "reward": 1.0, "done": True} in guesses
            assert "numbered 0 to 1099" in game.post("/reset", {"id": 0, "data_idx": 1100}).json["error"]
        finally:
            sys.modules.pop("higher_lower", None)


class TestRequestsOfTheWrongForm:
    def test_what_is_wrong_is_listed(self) -> None:
        maze = server("maze")
        answer = maze.post("/maze/step", {"id": "x"})
        assert answer.status == 422
        assert [(problem["type"], problem["loc"]) for problem in answer.json["detail"]] == [
            ("int_parsing", ["body", "id"]),
            ("missing", ["body", "action"]),
        ]
        assert maze.call("POST", "/maze/step", [b"\xff{"]).status == 422
        assert maze.get("/maze/observation").json["detail"][0]["loc"] == ["query", "id"]

    def test_numbers_may_be_strings_as_the_originals_take_them(self) -> None:
        maze = server("maze")
        maze.post("/maze/create")
        assert "observation" in maze.post("/maze/reset", {"id": "0", "game": "3"}).json

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/step", 404), ("PUT", "/maze/step", 405)])
    def test_wrong_paths_and_methods(self, method: str, path: str, status: int) -> None:
        answer = server("maze").call(method, path)
        assert answer.status == status
        assert set(answer.json) == {"detail"}

    def test_an_unknown_slot_is_an_error_with_status_200(self) -> None:
        answer = server("maze").post("/maze/step", {"id": 5, "action": ""})
        assert (answer.status, answer.json) == (200, {"error": "The id 5 is not valid."})

    def test_half_a_surrogate_pair_is_refused_and_written_out_if_it_comes_escaped(self) -> None:
        textcraft = server("textcraft")
        textcraft.post("/create")
        answer = textcraft.call("POST", "/step", [rb'{"id": 0, "action": "\ud800"}'])
        assert answer.status in (200, 422)


class TestLimits:
    def test_no_more_episodes_than_allowed(self) -> None:
        maze = server("maze", Limits(episodes=2))
        assert [maze.post("/maze/create").status for _ in range(3)] == [200, 200, 503]
        full = maze.post("/maze/create")
        assert "error" in full.json
        assert full.headers["retry-after"] == "1"
        maze.post("/maze/close", {"id": 0})
        assert maze.post("/maze/create").json == {"id": 2}

    def test_idle_episodes_expire_and_used_ones_stay(self) -> None:
        now = [0.0]
        environment = make("maze")
        limits = Limits(episodes=2, idle_seconds=10)
        slots = SlotTable(environment, DIALECTS["maze"], limits, clock=lambda: now[0])
        maze = Asgi(app(environment, limits, slots))
        for _ in range(2):
            maze.post("/maze/create")
        now[0] = 9.0
        maze.post("/maze/reset", {"id": 1, "game": 0})
        now[0] = 10.0
        assert maze.post("/maze/step", {"id": 1, "action": ""}).status == 200
        assert len(slots) == 1
        gone = maze.post("/maze/reset", {"id": 0, "game": 0}).json
        assert gone == {"error": "The task with environment 0 has been deleted."}
        assert maze.post("/maze/create").json == {"id": 2}

    def test_a_long_body_is_refused_before_it_is_read_to_the_end(self) -> None:
        maze = server("maze", Limits(body_bytes=100))
        answer = maze.call("POST", "/maze/step", [b"x" * 60] * 3)
        assert answer.status == 413
        assert "100 bytes" in answer.json["detail"]

    def test_a_client_that_leaves_does_not_break_the_server(self) -> None:
        maze = server("maze")
        assert maze.call("POST", "/maze/step", []).status == 400

    def test_a_fault_of_the_environment_is_an_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("the walls are gone")

        maze = server("maze")
        maze.post("/maze/create")
        monkeypatch.setattr("fedse.environments.maze.agentgym.MazeSession.reset", broken)
        answer = maze.post("/maze/reset", {"id": 0, "game": 1})
        assert answer.status == 200
        assert "the walls are gone" in answer.json["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_answers_are_sent_at_once(host: str) -> None:
    """asyncio switches Nagle's algorithm off only where the socket's protocol is named; else answers take 40 ms."""
    with listen(host, 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
