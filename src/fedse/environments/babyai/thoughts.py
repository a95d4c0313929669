"""How the BabyAI expert puts its reasons into words."""

from __future__ import annotations

import enum
import random
import re
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.missions import Errand, PutNext
from fedse.environments.babyai.perception import perceive
from fedse.environments.babyai.world import HEADINGS, World
from fedse.environments.voices import voices


class Purpose(enum.Enum):
    """What the bot is about."""

    MISSION = enum.auto()
    EXPLORE = enum.auto()
    FETCH_KEY = enum.auto()
    CLEAR_WAY = enum.auto()
    PUT_DOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class Aim:
    """Why the bot takes a step: its topmost subgoal, in short."""

    purpose: Purpose  #: what it is about
    target: str  #: the thing that it makes for, such as ``red key``; empty for a mere place


#: Words that a thought may have.
LIMIT = 30

#: What surrounds a thing's name in the text of an errand: the verb and the article, and where it lay at the beginning.
EXTRAS = re.compile(r"^(go to |pick up |open |put )?(the |an? )| (on your (left|right)|in front of you|behind you)$")


VOICES = voices(
    goal=("I have to {}.", "Goal: {}.", "My task is to {}."),
    seen=("I see the {}.", "The {} is in view.", "The {} is visible."),
    unseen=("I do not see the {}.", "No {} in view.", "The {} is not visible."),
    held=("I carry the {}.", "The {} is in my hands.", "I hold the {}."),
    decide=("I {}.", "I {}.", "I {}."),
    finish=("So I {}.", "That ends it: I {}.", "Now I {}."),
    look=("I {} to look around.", "I {} to see more.", "I search: I {}."),
    behind=("I {} to search on.", "I {} to explore what lies behind.", "It may be behind a door: I {}."),
    near=("I {} to get to the {}.", "I {} on the way to the {}.", "To reach the {1} I {0}."),
    room=(
        "I {} to find room for what I carry.",
        "I {} to find a free spot for this.",
        "I look for a place to put this down: I {}.",
    ),
    key=(
        "The key fits a locked door, so I {}.",
        "This key opens a locked door: I {}.",
        "A locked door needs this key: I {}.",
    ),
    obstacle=("It is in the way, so I {}.", "Something blocks the way: I {}.", "I clear the way: I {}."),
    need=("I need it, so I {}.", "That is what I need: I {}.", "I take what I need: I {}."),
    free=("I need free hands, so I {}.", "My hands must be free: I {}.", "I no longer need to carry this: I {}."),
)


class Narrator:
    """Explains actions by the mission, by what is in sight, and by the aim of the bot's plan."""

    def __init__(self, rng: random.Random) -> None:
        self._voice = rng.choice(VOICES)

    def finish(self, world: World, action: str) -> str:
        """The thought before an action that accomplishes the mission."""
        return self._compose(world, action, self._voice.finish)

    def think(self, world: World, action: str, aim: Aim) -> str:
        """The thought before any other action."""
        return self._compose(world, action, self._reason(world, action, aim), aim.target)

    def _compose(self, world: World, action: str, reason: str, target: str = "") -> str:
        errand = world.scene.clause.current(world.progress)
        done = action.replace("pickup", "pick up")
        goal, decision = self._voice.goal.format(errand.text), reason.format(done, target)
        thought = f"{goal} {self._sight(world, errand, action)} {decision}"
        if len(thought.split()) > LIMIT:
            thought = f"{goal} {decision}"
        return thought if len(thought.split()) <= LIMIT else f"{goal} {self._voice.decide.format(done)}"

    def _sight(self, world: World, errand: Errand, action: str) -> str:
        """Where the errand stands: what is carried for it, and whether what it is about is in sight."""
        voice = self._voice
        carries = isinstance(errand, PutNext) and world.carried in errand.targets
        held = f"{voice.held.format(cells.NAMES[world.carried_code])} " if carries else ""
        names = in_sight(world)
        if names:
            return held + voice.seen.format(next((name for name in names if name in action), names[0]))
        return held + voice.unseen.format(_wanted(errand, carries=carries))

    def _reason(self, world: World, action: str, aim: Aim) -> str:
        voice = self._voice
        if action.startswith("pickup"):
            return {Purpose.FETCH_KEY: voice.key, Purpose.CLEAR_WAY: voice.obstacle}.get(aim.purpose, voice.need)
        if action == "drop":
            return voice.free
        elsewhere = not all(word in action for word in aim.target.split())
        if "through" in action and not in_sight(world):
            return voice.near if elsewhere else voice.behind
        if aim.purpose is Purpose.EXPLORE:
            return voice.look
        if aim.target and elsewhere:
            return voice.near
        return voice.room if aim.purpose is Purpose.PUT_DOWN else voice.decide


def in_sight(world: World) -> list[str]:
    """Names of the things in sight that the errand at hand is about, nearest first."""
    wanted = world.scene.clause.current(world.progress).wanted(world.carried)
    forward, right = world.scene.steps[world.heading], world.scene.steps[(world.heading + 1) % HEADINGS]
    return [
        sight.name
        for sight in perceive(world.view(), world.heading, parity=False).sights
        if world.things[world.position + sight.ahead * forward + sight.right * right] in wanted
    ]


def _wanted(errand: Errand, *, carries: bool) -> str:
    """What the errand is about, in the mission's words, such as ``red ball``."""
    first, _, second = errand.text.partition(" next to ")
    return EXTRAS.sub("", second if carries else first)
