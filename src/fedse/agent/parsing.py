"""Reading thought and action out of the agent's text.

What counts is the first line after the first "Action:".  How the labels are set (bold, in small letters, twice), a
missing "Thought:" and whatever the agent writes after its action do not matter.  ``parity=True`` reads by the rules of
AgentGym's clients (arXiv 2406.04151), checked against recordings of them, their bug included: three of those clients
cut five characters where the closing tag ``</s>`` has four, and so lose the last letter of the action.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedse.environments.base import ActionRule

_MARK = "Action:"
_TAG = "</s>"
#: A label that begins its line may be written in any case; within a line only the exact one is a label.  A code block
#: may begin behind it.
_LABEL = re.compile(r"(?:(?:^[^\w\n]*(?i:action)|Action)[ *]*:\**\s*)+(?:```\w*[ \t]*\n\s*)?", re.MULTILINE)
_THOUGHT = re.compile(r"[^\w\n]*thought[ *]*:\**", re.IGNORECASE)
_END = re.compile(r"\n|Thought:|Action:|Observation:|</s>")
_WORD = re.compile(r"\w")
ONE_ACTION_ONLY = "Error: Only one 'Action' is allowed per response. Please adjust your response."
NO_ACTION = "No action was found. Write it in a line of its own: Action: <one action>"


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """What an agent's text says.

    Attributes:
        thought: the reasoning before the action, without its label.
        action: what goes to the environment; may be empty.
        error: an answer to the agent in place of the environment's, when the text breaks the form; else ``None``.
    """

    thought: str
    action: str
    error: str | None = None


def parse_response(text: str, rule: ActionRule, *, parity: bool = False) -> ParsedResponse:
    """Split an agent's text into thought and action by an environment's rule.  Never raises.

    A text without "Action:" is an action as a whole, without the lines that begin with "Thought:".

    Args:
        text: the agent's text, without special tokens.
        rule: see :data:`fedse.environments.base.ActionRule`.
        parity: read as AgentGym's clients do.
    """
    if parity:
        return _read_as_original(text, rule)
    label = _LABEL.search(text)
    if label is not None:
        thought, action = text[: label.start()], _END.split(text[label.end() :], 1)[0]
    else:
        lines = text.removesuffix(_TAG).split("\n")
        others = [line for line in lines if not _THOUGHT.match(line)]
        action, thought = "\n".join(others), "\n".join(line for line in lines if line not in others)
    if rule == "single":
        # Of other characters no action is made, and servers of AgentGym expect none.
        action = " ".join(re.sub(r"[^A-Za-z0-9,:_ ]", "", action).split())
    action, thought = action.strip(), thought.strip()
    opening = _THOUGHT.match(thought)
    thought = thought[opening.end() :].strip() if opening else thought
    # A text without a word is left to the environment, as an action that it does not know.
    return ParsedResponse(thought, action, NO_ACTION if not action and _WORD.search(text) else None)


def format_response(thought: str, action: str) -> str:
    """The text of a turn, as experts write it and as :func:`parse_response` reads it."""
    return f"Thought: {thought}\nAction: {action}" if thought else f"Action: {action}"


def _read_as_original(text: str, rule: ActionRule) -> ParsedResponse:
    thought = text.split(_MARK, 1)[0].strip().removeprefix("Thought:").strip()
    if rule == "single":
        return _read_single(text, thought)
    body = text[: -len(_TAG) - 1] if text.endswith(_TAG) else text
    if rule == "bracket":
        if _MARK in body:
            return ParsedResponse(thought, body.rsplit(_MARK, 1)[1].strip())
        bare = "search[" in body or "click[" in body
        return ParsedResponse("" if bare else thought, body.strip() if bare else "")
    pieces = body.split(_MARK)
    return ParsedResponse(thought if len(pieces) > 1 else "", pieces[min(1, len(pieces) - 1)].strip())


def _read_single(text: str, thought: str) -> ParsedResponse:
    # These clients do not know the tag: its letter "s" survives their cleaning, which is the same bug by another way.
    found = re.findall(r"Action:\s*([^\n]*)", text)
    if len(found) > 1:
        return ParsedResponse(thought, "", ONE_ACTION_ONLY)
    if not found:
        return ParsedResponse(thought, "")
    cleaned = re.sub(r"[^A-Za-z0-9, ]", "", found[0])
    return ParsedResponse(thought, " ".join(cleaned.split()))
