"""How the BabyAI expert puts its reasons into words."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.aims import Aim, Purpose
from fedse.environments.babyai.missions import Errand, PutNext
from fedse.environments.babyai.perception import perceive
from fedse.environments.babyai.world import HEADINGS, World

#: Words that a thought may have.
LIMIT = 30

#: What surrounds a thing's name in the text of an errand: the verb and the article, and where it lay at the beginning.
EXTRAS = re.compile(r"^(go to |pick up |open |put )?(the |an? )| (on your (left|right)|in front of you|behind you)$")


@dataclass(frozen=True, slots=True)
class _Phrases:
    """One way of speaking, kept through an episode."""

    goal: str
    seen: str
    unseen: str
    held: str
    decide: str
    finish: str
    look: str
    behind: str
    near: str
    room: str
    key: str
    obstacle: str
    need: str
    free: str


VOICES = (
    _Phrases(
        goal="I have to {}.",
        seen="I see the {}.",
        unseen="I do not see the {}.",
        held="I carry the {}.",
        decide="I {}.",
        finish="So I {}.",
        look="I {} to look around.",
        behind="I {} to search on.",
        near="I {} to get to the {}.",
        room="I {} to find room for what I carry.",
        key="The key fits a locked door, so I {}.",
        obstacle="It is in the way, so I {}.",
        need="I need it, so I {}.",
        free="I need free hands, so I {}.",
    ),
    _Phrases(
        goal="Goal: {}.",
        seen="The {} is in view.",
        unseen="No {} in view.",
        held="The {} is in my hands.",
        decide="I {}.",
        finish="That ends it: I {}.",
        look="I {} to see more.",
        behind="I {} to explore what lies behind.",
        near="I {} on the way to the {}.",
        room="I {} to find a free spot for this.",
        key="This key opens a locked door: I {}.",
        obstacle="Something blocks the way: I {}.",
        need="That is what I need: I {}.",
        free="My hands must be free: I {}.",
    ),
    _Phrases(
        goal="My task is to {}.",
        seen="The {} is visible.",
        unseen="The {} is not visible.",
        held="I hold the {}.",
        decide="I {}.",
        finish="Now I {}.",
        look="I search: I {}.",
        behind="It may be behind a door: I {}.",
        near="To reach the {1} I {0}.",
        room="I look for a place to put this down: I {}.",
        key="A locked door needs this key: I {}.",
        obstacle="I clear the way: I {}.",
        need="I take what I need: I {}.",
        free="I no longer need to carry this: I {}.",
    ),
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
        names = _in_sight(world, errand)
        if names:
            return held + voice.seen.format(next((name for name in names if name in action), names[0]))
        return held + voice.unseen.format(_wanted(errand, carries=carries))

    def _reason(self, world: World, action: str, aim: Aim) -> str:
        voice = self._voice
        errand = world.scene.clause.current(world.progress)
        if action.startswith("pickup"):
            return {Purpose.FETCH_KEY: voice.key, Purpose.CLEAR_WAY: voice.obstacle}.get(aim.purpose, voice.need)
        if action == "drop":
            return voice.free
        elsewhere = not all(word in action for word in aim.target.split())
        if "through" in action and not _in_sight(world, errand):
            return voice.near if elsewhere else voice.behind
        if aim.purpose is Purpose.EXPLORE:
            return voice.look
        if aim.target and elsewhere:
            return voice.near
        return voice.room if aim.purpose is Purpose.PUT_DOWN else voice.decide


def in_sight(world: World) -> list[str]:
    """Names of the things in sight that the errand at hand is about, nearest first."""
    return _in_sight(world, world.scene.clause.current(world.progress))


def _in_sight(world: World, errand: Errand) -> list[str]:
    """Names of the things in sight that the errand is about, nearest first."""
    wanted = errand.wanted(world.carried)
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
