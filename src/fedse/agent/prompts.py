"""The system message: the environment's rules, then the form of a reply.

With thoughts it is that of ReAct, without them that of its baseline Act (Yao et al., arXiv 2210.03629).
"""

from __future__ import annotations

from fedse.environments.base import Environment, PromptStyle
from fedse.texts import well_formed

#: Of each style, with thoughts or without.
_FORM: dict[tuple[PromptStyle, bool], str] = {
    ("concise", True): "Reply in two lines:\nThought: <why>\nAction: <one action>",
    ("concise", False): "Reply in one line:\nAction: <one action>",
    ("full", True): (
        "At every turn, first reason about what you have seen and what to do next, then choose exactly one action. "
        "Write your reply in this form and nothing after it:\n\n"
        "Thought: <your reasoning>\n"
        "Action: <one action>\n\n"
        "The next message tells you what the action did."
    ),
    ("full", False): (
        "At every turn, choose exactly one action. Write your reply in this form and nothing after it:\n\n"
        "Action: <one action>\n\n"
        "The next message tells you what the action did."
    ),
}


def system_prompt(environment: Environment, style: PromptStyle, *, thoughts: bool = True) -> str:
    """The system message for an environment in the given style; asks for thoughts before actions, or actions alone."""
    return f"{well_formed(environment.instruction(style)).strip()}\n{_FORM[style, thoughts]}"
