"""What can be told of a turn in BabyAI, and of what can be done after it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from fedse.environments.review import Review, Seen, undone

_GOAL = re.compile(r"\AYour goal: .*\n")
_THING = r"((?:red|green|blue|purple|yellow|grey) (?:ball|box|key|door))"
_SEEN = re.compile(
    rf"\bI (?:can )?see (?:the |an? )?{_THING}|(?<!no )\b{_THING} is (?:in view|in sight|visible)", re.IGNORECASE
)
_UNSEEN = re.compile(
    rf"\b(?:do not|don't|cannot|can't) see (?:the |an? |any )?{_THING}"
    rf"|\bno {_THING} (?:is )?(?:in view|in sight|visible)"
    rf"|{_THING} is not (?:in view|in sight|visible)",
    re.IGNORECASE,
)
_HELD = re.compile(rf"\bI (?:carry|hold|have) (?:the |an? )?{_THING}|{_THING} is in my hands", re.IGNORECASE)
_VIEW = "The room has walls around you."
_AVAILABLE = re.compile(r"^Available actions: (\[.*\])", re.MULTILINE)
_FACED = re.compile(r"There is a (\w+ \w+ \d+) right in front of you 1 steps away")
_CARRIED = re.compile(rf"You are carrying (?:the |an? )?{_THING}")


def review(turns: Sequence[Seen]) -> list[Review]:
    """See :meth:`fedse.environments.base.Environment.review`.

    What does nothing is answered with a reason, which is no view.  With a wall and a thing in view, the same view again
    is the same place again; bare walls look alike everywhere.
    """
    views = [_GOAL.sub("", turn.observation) for turn in turns]
    lost = undone([*(view if "facing a wall" in view and "There is a" in view else None for view in views), None])
    return [
        Review(_VIEW in turn.answer and not wasted, _truthful(turn)) for turn, wasted in zip(turns, lost, strict=True)
    ]


def offers(turns: Sequence[Seen]) -> list[str]:
    """The available actions that move something; see :meth:`fedse.environments.base.Environment.offers`."""
    listed = _AVAILABLE.findall(turns[-1].answer)
    views = [text for turn in turns for text in (turn.observation, turn.answer) if _VIEW in text]
    idle = {"check available actions", *(f"go to {thing}" for thing in _FACED.findall(views[-1] if views else ""))}
    return [action for action in json.loads(listed[-1]) if action not in idle] if listed else []


def _truthful(turn: Seen) -> bool:
    shown = _GOAL.sub("", turn.observation)
    return (
        all(thing in shown for thing in _things(_SEEN, turn.thought))
        and not any(thing in shown for thing in _things(_UNSEEN, turn.thought))
        and _things(_HELD, turn.thought) <= _things(_CARRIED, shown)
    )


def _things(claims: re.Pattern[str], text: str) -> set[str]:
    return {thing.lower() for found in claims.finditer(text) for thing in found.groups() if thing}
