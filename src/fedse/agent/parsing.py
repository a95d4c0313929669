"""Reading thought and action out of the agent's text.

The rules are those of AgentGym's clients (arXiv 2406.04151), checked against recordings of them.  One bug is mended by
default: three of those clients cut five characters where the closing tag ``</s>`` has four, and so lose the last letter
of the action; ``parity=True`` brings it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedse.environments.base import ActionRule

_MARK = "Action:"
_TAG = "</s>"
ONE_ACTION_ONLY = "Error: Only one 'Action' is allowed per response. Please adjust your response."


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

    Args:
        text: the agent's text, without special tokens.
        rule: see :data:`fedse.environments.base.ActionRule`.
        parity: read a closing ``</s>`` as AgentGym's clients do, off by one.
    """
    thought = text.split(_MARK, 1)[0].strip().removeprefix("Thought:").strip()
    if rule == "single":
        return _single(text, thought, parity=parity)
    body = text.removesuffix(_TAG)
    if parity and body != text:
        body = body[:-1]
    if rule == "bracket":
        if _MARK in body:
            return ParsedResponse(thought, body.rsplit(_MARK, 1)[1].strip())
        bare = "search[" in body or "click[" in body
        return ParsedResponse("" if bare else thought, body.strip() if bare else "")
    pieces = body.split(_MARK)
    return ParsedResponse(thought if len(pieces) > 1 else "", pieces[min(1, len(pieces) - 1)].strip())


def format_response(thought: str, action: str) -> str:
    """The text of a turn, as experts write it and as :func:`parse_response` reads it."""
    return f"Thought: {thought}\nAction: {action}"


def _single(text: str, thought: str, *, parity: bool) -> ParsedResponse:
    # These clients do not know the tag: its letter "s" survives their cleaning, which is the same bug by another way.
    body = text if parity else text.removesuffix(_TAG)
    found = re.findall(r"Action:\s*([^\n]*)", body)
    if len(found) > 1:
        return ParsedResponse(thought, "", ONE_ACTION_ONLY)
    if not found:
        return ParsedResponse(thought, "")
    cleaned = re.sub(r"[^A-Za-z0-9, ]", "", found[0])
    return ParsedResponse(thought, " ".join(cleaned.split()))
