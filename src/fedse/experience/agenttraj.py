"""Exchange of episodes in AgentGym's AgentTraj format.

The format is a JSON list of conversations (AgentGym, arXiv 2406.04151; its docs/tutorials/en/02-behavioral-cloning.md).
The first ``human`` message is the instruction, answered by a ``gpt`` message without loss; then observations, from
``human``, and replies of the agent, from ``gpt`` and with loss, take turns.  It has no system role, no rewards and no
outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedse.errors import StoreError
from fedse.storage import read_json, write_json
from fedse.types import Message, Trajectory

_ACKNOWLEDGEMENT = "Ok."
#: Role → who speaks, and whether with loss.
_SPEAKERS = {"user": ("human", None), "assistant": ("gpt", True)}


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of a file.

    Attributes:
        item_id: the environment's name, ``_``, and the task there, as in ``maze_17``.
        messages: the chat as a :class:`~fedse.types.Trajectory` has it: the instruction as the system message, then
            observations and replies in turn; the acknowledgement of the instruction is left out.
    """

    item_id: str
    messages: tuple[Message, ...]


def write_agenttraj(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write episodes as an AgentTraj file, atomically; ``item_id`` is ``environment_task``.

    Raises:
        StorageError: if the file cannot be written.
    """
    write_json(path, [_item(trajectory) for trajectory in trajectories])


def read_agenttraj(path: Path) -> list[Conversation]:
    """The conversations of an AgentTraj file, in its order.

    They are chats, not trajectories: the actions must be played again in the environment to know their outcome.

    Raises:
        StorageError: if the file is missing or no JSON.
        StoreError: if an entry is not of the format; names the entry and what is wrong.
    """
    items = read_json(path)
    if not isinstance(items, list):
        raise StoreError(f"{path} is no AgentTraj file: it holds no list", "check the path")
    return [_conversation(item, f"{path}, entry {index}") for index, item in enumerate(items)]


def _item(trajectory: Trajectory) -> dict[str, Any]:
    system, *chat = trajectory.messages
    said = [("human", None, system.content), ("gpt", False, _ACKNOWLEDGEMENT)]
    said += [(*_SPEAKERS[message.role], message.content) for message in chat]
    conversation = [{"from": speaker, "loss": loss, "value": text} for speaker, loss, text in said]
    return {"item_id": f"{trajectory.task.environment}_{trajectory.task.id}", "conversations": conversation}


def _conversation(item: Any, where: str) -> Conversation:
    mend = 'an entry is {"item_id": …, "conversations": [{"from": "human" or "gpt", "loss": …, "value": …}, …]}'
    try:
        item_id, messages = item["item_id"], item["conversations"]
        chat = [(message["from"], message["value"]) for message in messages]
    except (KeyError, TypeError) as cause:
        raise StoreError(f"{where}: {type(cause).__name__}: {cause}", mend) from cause
    if not all(isinstance(text, str) for text in (item_id, *(value for _, value in chat))):
        raise StoreError(f"{where}: item_id and every value must be text", mend)
    speakers = [speaker for speaker, _ in chat]
    if len(chat) < 2 or speakers != [("human", "gpt")[index % 2] for index in range(len(chat))]:
        raise StoreError(f"{where}: human and gpt must take turns, human first; found {speakers}", mend)
    (_, instruction), _, *rest = chat
    turns = [Message("user" if speaker == "human" else "assistant", text) for speaker, text in rest]
    return Conversation(item_id, (Message("system", instruction), *turns))
