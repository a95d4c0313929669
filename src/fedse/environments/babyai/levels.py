"""The forty BabyAI levels that AgentGym serves, in its numbering, from 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedse.errors import ConfigError
from fedse.names import unknown_name

#: Turns that an agent gets, as in AgentGym's scripts.
MAX_TURNS = 20

_LEVELS = """
    GoToRedBallGrey GoToRedBall GoToRedBallNoDists GoToObjS6 GoToLocalS8N7 GoToObjMazeS7 GoToImpUnlock GoToSeqS5R2
    GoToRedBlueBall GoToDoor GoToObjDoor Open OpenRedDoor OpenDoorLoc OpenRedBlueDoorsDebug OpenDoorsOrderN4Debug
    Pickup UnblockPickup PickupLoc PickupDistDebug PickupAbove PutNextLocalS6N4 PutNextS7N4Carrying Unlock
    UnlockLocalDist KeyInBox UnlockPickupDist BlockedUnlockPickup UnlockToUnlock ActionObjDoor FindObjS7
    KeyCorridorS6R3 OneRoomS20 MoveTwoAcrossS8N9 SynthS5R2 SynthLoc SynthSeq MiniBossLevel BossLevel
    BossLevelNoUnlock
"""
#: MiniGrid registers each under ``BabyAI-<name>-v0``.
LEVELS = tuple(_LEVELS.split())


def _numbered(*numbers: int) -> tuple[str, ...]:
    return tuple(LEVELS[number - 1] for number in numbers)


#: The levels that AgentGym's training and test data use.
BENCHMARK_LEVELS = _numbered(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 19, 20, 21, 30, 31, 33, 36)

#: Parts of the benchmark's levels, by what is to be done and by where: sites can differ in them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "benchmark": BENCHMARK_LEVELS,
    # Go to a thing in the room where one stands; one to three actions.
    "easy": _numbered(1, 2, 3, 4, 5, 9),
    "go-to": _numbered(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
    "pick-up": _numbered(19, 20, 21, 31, 33),
    "mixed": _numbered(30, 36),
    "one-room": _numbered(1, 2, 3, 4, 5, 9, 19, 20, 33),
    "many-rooms": _numbered(6, 7, 8, 10, 11, 21, 30, 31, 36),
}


def chosen_levels(levels: str | Sequence[str | int]) -> tuple[str, ...]:
    """The names behind a choice of levels, in the order of the numbering.

    Args:
        levels: a group or the name of a level, or a list of groups, names and numbers.

    Raises:
        ConfigError: if the choice is empty, no list, or holds a number that no level has.
        UnknownNameError: if it holds a name that neither a level nor a group has.
    """
    if isinstance(levels, str):
        levels = [levels]
    if not isinstance(levels, list | tuple):
        raise ConfigError(
            f"babyai: levels must be a group or a list of names and numbers, found {levels!r}",
            f"groups: {', '.join(GROUPS)}",
        )
    names = {name for level in levels for name in _named(level)}
    if not names:
        raise ConfigError("babyai: levels is an empty list", "name at least one level, or leave the option out")
    return tuple(name for name in LEVELS if name in names)


def _named(level: object) -> tuple[str, ...]:
    if isinstance(level, str) and level in GROUPS:
        return GROUPS[level]
    if isinstance(level, str) and level in LEVELS:
        return (level,)
    if isinstance(level, int) and not isinstance(level, bool):
        if 1 <= level <= len(LEVELS):
            return (LEVELS[level - 1],)
        raise ConfigError(f"babyai has no level {level}", f"levels are numbered 1 to {len(LEVELS)}")
    raise unknown_name("babyai level", str(level), (*GROUPS, *LEVELS))
