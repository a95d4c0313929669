"""The system message: the environment's rules, then the form of a reply (ReAct, Yao et al., arXiv 2210.03629)."""

from __future__ import annotations

from fedse.environments.base import Environment, PromptStyle
from fedse.texts import well_formed

_FORM: dict[PromptStyle, str] = {
    "concise": "Reply in two lines:\nThought: <why>\nAction: <one action>",
    "full": (
        "At every turn, first reason about what you have seen and what to do next, then choose exactly one action. "
        "Write your reply in this form and nothing after it:\n\n"
        "Thought: <your reasoning>\n"
        "Action: <one action>\n\n"
        "The next message tells you what the action did."
    ),
}


def system_prompt(environment: Environment, style: PromptStyle) -> str:
    """The system message for an environment in the given style."""
    return f"{well_formed(environment.instruction(style)).strip()}\n{_FORM[style]}"
