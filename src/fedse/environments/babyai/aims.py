"""Why the BabyAI expert's bot does what it does."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Purpose(enum.Enum):
    """What the bot is about."""

    MISSION = enum.auto()
    EXPLORE = enum.auto()
    FETCH_KEY = enum.auto()
    CLEAR_WAY = enum.auto()
    PUT_DOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class Aim:
    """Why the bot takes a step: its topmost subgoal, in short.

    Attributes:
        purpose: what it is about.
        target: the thing that it makes for, such as ``red key``; empty for a mere place.
    """

    purpose: Purpose
    target: str
