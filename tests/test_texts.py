"""Text of others is made sound where it comes in: halves of characters, and byte order marks."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import fedse
from fedse.agent.prompts import system_prompt
from fedse.environments.agentgym.replay import replay_file
from fedse.environments.webshop import read_catalogue, write_catalogue
from fedse.environments.wordle.vocabulary import read_words
from fedse.errors import ConfigError
from fedse.experience import ExperienceStore
from fedse.experience.agenttraj import read_agenttraj, write_agenttraj
from fedse.experience.trajectory_files import read_trajectories, write_trajectories
from fedse.rollout.endpoint.connection import Answer
from fedse.rollout.scripted import ExpertPolicy, play
from fedse.settings import load_config
from fedse.settings.yaml_text import parse_yaml
from fedse.sites.demonstrations import import_demonstrations
from fedse.storage import atomic_write, read_json, write_json
from fedse.suites import load_suite
from fedse.texts import command, counted, parse_json
from fedse.types import Source, Trajectory, Turn
from helpers.made_episodes import episode
from helpers.toy_environment import Toy
from helpers.webshop_goods import product

HALF = "\ud83d"
MARK = b"\xef\xbb\xbf"


def _texts(trajectory: Trajectory) -> str:
    turns = "".join(turn.observation + turn.response + turn.action for turn in trajectory.turns)
    return trajectory.instruction + turns + trajectory.final_observation + trajectory.error


@pytest.mark.parametrize(
    "content", [r'{"a": ["\ud83d", "\ud83d\ude00"]}', b'{"a": ["\xed\xa0\xbd", "\xf0\x9f\x98\x80"]}']
)
def test_json_has_no_half_characters_and_keeps_whole_ones(content: str | bytes, tmp_path: Path) -> None:
    data = parse_json(content)
    assert data["a"][0].strip("\ufffd") == ""
    assert data["a"][1] == "\N{GRINNING FACE}"
    data[HALF] = HALF
    write_json(tmp_path / "file", data)
    assert read_json(tmp_path / "file")["\ufffd"] == "\ufffd"


def test_json_nested_without_end_is_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(fedse.FedseError, match=r"deep\.json is not valid JSON: it is nested too deeply"):
        read_json(tmp_path / "deep.json")


def test_imported_demonstrations_lose_half_characters(tmp_path: Path) -> None:
    environment = fedse.make("wordle")
    instruction = system_prompt(environment, "concise")
    made = fedse.demonstrate(environment, environment.tasks("train")[:2], 2, instruction=instruction, seed=0)
    write_agenttraj(tmp_path / "file.json", made)
    content = (tmp_path / "file.json").read_bytes().replace(b"Thought: ", rb"Thought: \ud83d ")
    (tmp_path / "file.json").write_bytes(MARK + content)
    found = import_demonstrations(tmp_path / "file.json", environment, instruction=instruction)
    assert [kept.turns[0].response[:11] for kept in found.confirmed] == ["Thought: \ufffd "] * 2
    "".join(map(_texts, found.confirmed)).encode()


def test_a_product_of_half_characters_can_be_sold(tmp_path: Path) -> None:
    write_catalogue([product(instruction="I need caps", wanted=("wool lining",))], tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes().replace(b"Harbor", rb"\ud83d Harbor").replace(b"ear flaps", rb"ear\ud83d flaps")
        file.write_bytes(MARK + content)
    (sold,) = read_catalogue(tmp_path)
    assert sold.title == "\ufffd Harbor Cap 0"
    assert sold.attributes == ("wool lining", "ear\ufffd flaps")


def test_an_episode_of_any_environment_can_be_written_and_tokenized(tmp_path: Path) -> None:
    toy = Toy(secret=HALF)
    task = fedse.Task("toy", "train-0")
    made = play(
        toy,
        fedse.EpisodeRequest(task, 0),
        lambda opened: ExpertPolicy(opened, 0),
        instruction=system_prompt(toy, "concise"),
        source=Source.EXPERT,
    )
    assert made.success
    assert made.turns[0].observation == "\ufffd 0?"
    _texts(made).encode()


def test_a_task_whose_id_no_file_can_hold_is_refused_by_name() -> None:
    with pytest.raises(fedse.EnvironmentFault, match=r"train.*-0' of a task of 'toy' holds half of a character"):
        Toy(secret=HALF).tasks("train")


def test_a_fault_told_in_half_characters_can_be_written() -> None:
    class Broken(Toy):
        def reset(self, task: fedse.Task) -> str:
            raise OSError(HALF)

    toy = Broken()
    request = fedse.EpisodeRequest(toy.tasks("train")[0], 0)
    made = play(toy, request, lambda opened: ExpertPolicy(opened, 0), instruction="", source=Source.EXPERT)
    assert made.success is None
    assert "OSError: \ufffd" in made.error


def test_recorded_episodes_lose_half_characters(tmp_path: Path) -> None:
    old = replace(episode(1), instruction=HALF, turns=(Turn(HALF, HALF, "up", 0.0),), final_observation=HALF)
    write_trajectories(tmp_path / "file.jsonl.gz", [old])
    with ExperienceStore(tmp_path / "store.sqlite") as store:
        store.add([old])
        read = [*store.trajectories(), *read_trajectories(tmp_path / "file.jsonl.gz")]
    assert [_texts(found) for found in read] == ["\ufffd\ufffd\ufffdup\ufffd"] * 2


def test_what_an_inference_server_says_has_no_half_characters() -> None:
    assert Answer(200, r'{"text": "go \ud83d"}').body == {"text": "go \ufffd"}


def test_yaml_with_half_characters_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"half of a character.* \(line 2, column 7\)"):
        parse_yaml('a: 1\nname: "\\ud83d"')
    with pytest.raises(ConfigError, match="half of a character"):
        load_config("quickstart", overrides=[r'name="\ud83d"'])


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(MARK + b"apple\nhouse\n")
    assert read_words(tmp_path / "words").words == ("apple", "house")
    (tmp_path / "config.yaml").write_bytes(MARK + b"preset: quickstart\nname: mine\n")
    assert load_config(file=tmp_path / "config.yaml").name == "mine"
    suite = b"name: small\npreset: tiny\nmethods: [local, fedit]\nreference: fedit\nseeds: [0]\n"
    (tmp_path / "suite.yaml").write_bytes(MARK + suite)
    assert load_suite(tmp_path / "suite.yaml").name == "small"
    write_agenttraj(tmp_path / "traj.json", [episode(1)])
    (tmp_path / "traj.json").write_bytes(MARK + (tmp_path / "traj.json").read_bytes())
    assert len(read_agenttraj(tmp_path / "traj.json")) == 1
    write_trajectories(tmp_path / "file.jsonl.gz", [episode(1)])
    content = gzip.decompress((tmp_path / "file.jsonl.gz").read_bytes())
    (tmp_path / "file.jsonl.gz").write_bytes(gzip.compress(MARK + content))
    assert read_trajectories(tmp_path / "file.jsonl.gz") == [episode(1)]
    recorded: dict[str, object] = {"env": "wordle_none", "text": "Action: apple", "posted": [], "local": None}
    (tmp_path / "record.jsonl").write_bytes(MARK + json.dumps({"meta": recorded}).encode() + b"\n")
    assert replay_file(tmp_path / "record.jsonl").episodes == 0


def test_a_file_can_be_written_whatever_its_text_holds(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", f"a run in runs{HALF}")
    assert (tmp_path / "file").read_text() == "a run in runs\ufffd"


def test_commands_are_typed_with_quotation_marks_where_words_need_them() -> None:
    assert command("fedse view", Path("my runs/a"), "--round", 0) == "fedse view 'my runs/a' --round 0"


def test_no_message_puts_a_path_behind_a_command_by_itself() -> None:
    """Paths have spaces: they go through ``command``."""
    bare = re.compile(
        r'f"[^"\n]*\bfedse [a-z][a-z -]*\{(?!command)[^}]*(folder|root|out|config|suite|path|keep|server)\}'
    )
    package = Path(fedse.__file__).parent
    sources = {path: path.read_text() for path in package.rglob("*.py")}
    assert not [f"{path}: {hit[0]}" for path, text in sources.items() for hit in bare.finditer(text)]


@pytest.mark.parametrize(
    ("count", "thing", "said"),
    [
        (1, "success", "1 success"),
        (2, "success", "2 successes"),
        (0, "trajectory", "0 trajectories"),
        (1.0, "epoch", "1 epoch"),
    ],
)
def test_things_are_counted_in_their_plural(count: float, thing: str, said: str) -> None:
    assert counted(count, thing) == said
