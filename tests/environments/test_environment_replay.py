"""A replay agrees with recordings of the original environments, and tells exactly what does not."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fedse.environments.agentgym.replay import ABSENT, Difference, replay_file
from fedse.errors import EnvironmentFault, StoreError
from helpers.recordings import recording

WALLS, BELOW = (
    f"The goal is at position 8, 6. Your current position is at position {row}, 6. "
    "There are walls to your right, to your left."
    for row in (6, 7)
)
EPISODE: dict[str, Any] = {
    "env": "maze",
    "task_id": 17,
    "reset_kwargs": {"game": 17},
    "reset": {"observation": WALLS},
    "steps": [
        {"action": "move left", "observation": WALLS, "reward": 0, "done": False},
        {"action": "move down", "observation": BELOW, "reward": 0, "done": False},
        {"action": "move down", "observation": "Success\n", "reward": 1.0, "done": True},
        {"action": "move down", "error": "The task with environment 0 has finished."},
    ],
}
GAME: dict[str, Any] = {
    "env": "wordle",
    "vocab": "bip39_40",
    "reset_kwargs": {"seed": 1},
    "steps": [
        {
            "action": "b r i c k",
            "observation": "b b b g g\n",
            "reward": 0,
            "done": False,
            "n_filtered": 2,
            "filtered": ["clock", "shock"],
        }
    ],
}


def write(path: Path, *records: Any) -> Path:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@pytest.mark.parametrize(
    ("name", "episodes", "steps"),
    [("babyai", 178, 2213), ("maze", 47, 1247), ("textcraft", 332, 3198), ("wordle_bip39", 129, 536)],
    ids=lambda value: str(value),
)
def test_recordings_of_the_originals_are_reproduced(name: str, episodes: int, steps: int) -> None:
    report = replay_file(recording(name))
    assert list(map(str, report.differences)) == []
    assert (report.env, report.episodes, report.steps) == (name.split("_")[0], episodes, steps)


@pytest.mark.parametrize("name", ["babyai", "maze", "textcraft", "wordle_bip39"])
def test_one_altered_observation_is_one_difference(name: str, tmp_path: Path) -> None:
    lines = gzip.decompress(recording(name).read_bytes()).decode().splitlines()
    record = json.loads(lines[20])
    record["steps"][0]["observation"] += "!"
    lines[20] = json.dumps(record)
    altered = tmp_path / "altered.jsonl.gz"
    altered.write_bytes(gzip.compress("\n".join(lines).encode()))
    [difference] = replay_file(altered).differences
    assert (difference.line, difference.step, difference.field) == (21, 0, "observation")
    assert difference.expected == f"{difference.found}!"


@pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.jsonl.gz"])
def test_plain_and_gzipped_files_are_read_and_descriptions_are_passed_over(tmp_path: Path, name: str) -> None:
    report = replay_file(write(tmp_path / name, {"meta": {"rule": "none"}}, EPISODE, EPISODE))
    assert (report.env, report.episodes, report.steps, report.differences) == ("maze", 2, 8, ())
    assert replay_file(write(tmp_path / name)).env == ""


@pytest.mark.parametrize(
    ("step", "field", "value", "found"),
    [
        (None, "observation", "elsewhere", WALLS),
        (0, "reward", 0.0, 0),
        (0, "done", 0, False),
        (2, "reward", 1, 1.0),
        (3, "error", "", "The task with environment 0 has finished."),
    ],
)
def test_values_and_their_json_types_are_compared(
    tmp_path: Path, step: int | None, field: str, value: Any, found: Any
) -> None:
    episode = copy.deepcopy(EPISODE)
    (episode["reset"] if step is None else episode["steps"][step])[field] = value
    [difference] = replay_file(write(tmp_path / "a.jsonl", episode)).differences
    assert difference == Difference(1, step, field, value, found)
    assert str(difference).startswith(f"line 1, {'reset' if step is None else f'step {step}'}, {field}: expected")


def test_missing_and_additional_fields_are_differences(tmp_path: Path) -> None:
    episode = copy.deepcopy(EPISODE)
    episode["steps"][0]["score"] = 5
    del episode["steps"][1]["done"]
    assert replay_file(write(tmp_path / "a.jsonl", episode)).differences == (
        Difference(1, 0, "score", 5, ABSENT),
        Difference(1, 1, "done", ABSENT, False),
    )


def test_facts_beside_the_payload_are_compared_where_they_were_noted(tmp_path: Path) -> None:
    unnoted = copy.deepcopy(GAME)
    unnoted["steps"][0]["filtered"] = None
    wrong = copy.deepcopy(GAME)
    wrong["steps"][0]["filtered"] = ["clock"]
    report = replay_file(write(tmp_path / "a.jsonl", GAME, unnoted, wrong))
    assert report.differences == (Difference(3, 0, "filtered", ["clock"], ["clock", "shock"]),)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"env": "maze", ', "it is not JSON"),
        ("[1, 2]", "list instead of an object"),
        ('{"env": "maze", "steps": []}', "'reset_kwargs' is missing"),
        ('{"env": 3, "reset_kwargs": {}, "steps": []}', "'env' is missing or is no str"),
        ('{"env": "maze", "reset_kwargs": {"game": 1}, "steps": {}}', "'steps' is missing or is no list"),
        ('{"env": "maze", "reset_kwargs": {"game": 1}, "reset": 1, "steps": []}', "'reset' is no dict"),
        ('{"env": "maze", "reset_kwargs": {"game": 1}, "steps": [{"observation": ""}]}', "step 0 is not an object"),
        ('{"env": "wordle", "vocab": "bip39_40", "reset_kwargs": {"seed": 1}, "steps": []}', "'maze' to 'wordle'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "damaged.jsonl"
    path.write_text(f"{json.dumps(EPISODE)}\n\n{line}\n")
    with pytest.raises(StoreError, match=complaint) as caught:
        replay_file(path)
    assert "line 3" in str(caught.value)
    assert "damaged.jsonl" in str(caught.value)


def test_an_unknown_environment_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"line 1[\s\S]*'mace'[\s\S]*did you mean maze"):
        replay_file(write(tmp_path / "a.jsonl", {**EPISODE, "env": "mace"}))


def test_a_truncated_or_binary_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", *[EPISODE] * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"damaged in line \d+: it cannot be read"):
        replay_file(path)
    path.write_bytes(b"\xff\xfe\x00 not text")
    with pytest.raises(StoreError, match="damaged in line 1"):
        replay_file(path)
    with pytest.raises(StoreError, match="there is no recording"):
        replay_file(tmp_path / "missing.jsonl.gz")


@pytest.mark.parametrize("broken", [{"reset_kwargs": {}}, {"reset_kwargs": {"game": "one"}}])
def test_an_environment_that_breaks_down_is_named_with_the_line(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentFault, match="line 2: maze broke down"):
        replay_file(write(tmp_path / "a.jsonl", EPISODE, {**EPISODE, **broken}))


def test_replies_need_something_to_read_them_with(tmp_path: Path) -> None:
    reply = {"env": "maze", "text": "Action: move up", "posted": [{"path": "step", "action": "move up"}], "local": None}
    path = write(tmp_path / "replies.jsonl", reply, {**reply, "env": "wordle"})
    with pytest.raises(StoreError, match="line 1 holds a reply"):
        replay_file(path)
    report = replay_file(path, lambda text, rule: (text.removeprefix("Action: "), None))
    assert (report.env, report.episodes, report.steps, report.differences) == ("maze, wordle", 2, 2, ())
    with pytest.raises(StoreError, match="'text' is missing or is no str"):
        replay_file(write(tmp_path / "damaged.jsonl", {**reply, "text": 3}))
    with pytest.raises(StoreError, match="'maze' to 'wordle'"):
        replay_file(write(tmp_path / "mixed.jsonl", EPISODE, {**EPISODE, "env": "wordle"}))
