import json

import pytest

from fedse.errors import StorageError, StoreError
from fedse.experience.agenttraj import read_agenttraj, write_agenttraj
from fedse.types import Message
from helpers.made_episodes import episode


def test_an_episode_is_written_as_agentgym_documents_it(tmp_path):
    write_agenttraj(tmp_path / "file.json", [episode(3)])
    (item,) = json.loads((tmp_path / "file.json").read_text())
    assert item == {
        "item_id": "maze_task/3",
        "conversations": [
            {"from": "human", "loss": None, "value": "Reach the goal."},
            {"from": "gpt", "loss": False, "value": "Ok."},
            {"from": "human", "loss": None, "value": "You see 0."},
            {"from": "gpt", "loss": True, "value": "Thought: I go on.\nAction: move 0"},
        ],
    }


def test_what_is_written_reads_back_as_the_same_chats(tmp_path):
    episodes = [episode(number) for number in range(4)]
    write_agenttraj(tmp_path / "file.json", episodes)
    conversations = read_agenttraj(tmp_path / "file.json")
    assert [conversation.messages for conversation in conversations] == [made.messages for made in episodes]
    assert [conversation.item_id for conversation in conversations] == [f"maze_{made.task.id}" for made in episodes]


def test_a_conversation_may_end_with_an_observation(tmp_path):
    chat = [("human", "Rules."), ("gpt", "OK, I see."), ("human", "Go."), ("gpt", "Action: up"), ("human", "Won.")]
    item = {"item_id": "maze_1", "conversations": [{"from": who, "loss": None, "value": text} for who, text in chat]}
    (tmp_path / "file.json").write_text(json.dumps([item]))
    (conversation,) = read_agenttraj(tmp_path / "file.json")
    assert conversation.messages[0] == Message("system", "Rules.")
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no list"),
        ([{"conversations": []}], "entry 0: KeyError: 'item_id'"),
        ([{"item_id": "a_1", "conversations": []}], "must take turns"),
        ([{"item_id": "a_1", "conversations": [{"from": "gpt", "value": "x"}] * 2}], "must take turns"),
        ([{"item_id": "a_1", "conversations": [{"from": "human", "value": None}]}], "must be text"),
        ([{"item_id": 1, "conversations": []}], "must be text"),
        (["text"], "entry 0: TypeError"),
    ],
)
def test_another_format_is_named(tmp_path, content, message):
    (tmp_path / "file.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=message):
        read_agenttraj(tmp_path / "file.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"file\.json"):
        read_agenttraj(tmp_path / "file.json")
