"""How ``search[…]`` and ``click[…]`` are written, what else spells them, and what is said of all other actions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedse.environments.forgiving import meant, plain, shown

_VERBS = ("search", "click")
#: Other brackets than the right ones, or none.
_LOOSE = re.compile(r"\W*(search|click)\W+(\w.*)", re.IGNORECASE)
_CLOSING = " .,;:!?\"'`*”’)]}"


def parsed(action: str) -> tuple[str, str]:
    r"""The verb and the lower-case argument of an action; both empty if it has no such form.

    What ``re.match(r"(.+)\[(.+)\]", action)`` finds in the original, in linear time: leading words and a second action
    in the same line become part of the verb, text after the last bracket is passed over.
    """
    line = action.partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, max(end - 1, 0))
    return (line[:start], line[start + 1 : end].lower()) if start > 0 else ("", "")


def spelled(action: str, clickables: Sequence[str]) -> str:
    """The exact action that ``action`` spells; unchanged if there is a doubt.

    Args:
        action: what the agent says.
        clickables: what can be clicked on the page, in small letters.
    """
    verb, argument = parsed(action)
    verb = plain(verb)
    if not verb:
        loose = _LOOSE.match(action.partition("\n")[0])
        if loose is None or any(bracket in loose[2] for bracket in "[("):
            return action
        verb, argument = loose[1].lower(), loose[2].rstrip(_CLOSING)
    if verb not in _VERBS:
        return action
    if verb == "click":
        argument = meant(argument.lower(), clickables) or argument
    return f"{verb}[{argument}]"


def refusal(action: str, clickables: Sequence[str]) -> str:
    """What is said of an action that does nothing."""
    buttons = [text for text in clickables if text != "search"]
    click = f", or click[button] with one of: {', '.join(buttons)}" if buttons else ""
    return f"{shown(action)} does nothing on this page. Write search[words]{click}."
