"""The BabyAI expert: MiniGrid's bot, put into the macro actions of the text game."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.aims import Aim, Purpose
from fedse.environments.babyai.missions import FORWARD, LEFT, RIGHT, TOGGLE, Status
from fedse.environments.babyai.perception import perceive
from fedse.environments.babyai.thoughts import Narrator
from fedse.environments.babyai.world import HEADINGS, Pose, World
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

#: Steps of the bot's plan in which the expert looks for a state that one action reaches.
_HORIZON = 40

#: Primitive steps that are actions in words of their own.
_BARE = {LEFT: "turn left", RIGHT: "turn right", FORWARD: "move forward", TOGGLE: "toggle"}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Where an action leads.

    Attributes:
        action: in words.
        world: the state after it.
        cost: primitive steps taken; among equals an action that would do no more than it does (to go to a thing, rather
            than to pick it up and be done on arriving) is better, and one that names a thing.
    """

    action: str
    world: World
    cost: tuple[int, int, bool]


class BabyAIExpert:
    """Follows the bot's plan in as few actions as it can.

    It is privileged: it tries the available actions out on copies of the world before it takes one.  It takes one that
    accomplishes the mission; else the one that gets farthest along the plan of the bot, which itself knows only what
    has been seen.  An action gets as far as the last planned state that equals the state after it, or as the first
    planned state in which the same things have happened, wherever the agent stands.

    Args:
        world: the open episode's world; the expert looks at it and does not change it.
        seed: varies the words, not the actions.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._narrator = Narrator(python_random("babyai", "expert", seed))
        self._wandering = python_random("babyai", "wandering", world.scene.level, world.scene.seed)
        self._course: _Course | None = None
        self._expected: object = None

    def act(self, observation: str) -> tuple[str, str]:
        """The next (thought, action).

        Raises:
            EnvironmentFault: if the episode is over.
        """
        world = self._world
        if world.over:
            raise EnvironmentFault(f"the babyai expert cannot act after the end of the episode, on {observation!r}")
        outcomes = _outcomes(world)
        finishing = [outcome for outcome in outcomes if outcome.world.status is Status.SUCCESS]
        if finishing:
            chosen = min(finishing, key=lambda outcome: outcome.cost)
            return self._narrator.finish(world, chosen.action), chosen.action
        chosen, aim = self._choose(outcomes)
        self._expected = (chosen.world.pose, chosen.world.arrangement)
        return self._narrator.think(world, chosen.action, aim), chosen.action

    def _choose(self, outcomes: list[_Outcome]) -> tuple[_Outcome, Aim]:
        course = self._course
        if course is not None and self._expected == (self._world.pose, self._world.arrangement):
            found = course.advance(self._world, outcomes) or course.rejoin(self._world, outcomes)
            if found is not None:
                return found
        self._course = _Course(self._world)
        found = self._course.advance(self._world, outcomes)
        if found is not None:
            return found
        # The bot knows no way, or goes on by something that no action in words does, such as closing a door.
        self._course = None
        harmless = [outcome for outcome in outcomes if not outcome.world.over]
        return self._wandering.choice(harmless or outcomes), Aim(Purpose.EXPLORE, "")


class _Course:
    """A plan, and how far it is carried out."""

    def __init__(self, world: World) -> None:
        # Imported here because it imports MiniGrid, which by now the world has done.
        from fedse.environments.babyai.planning import Plan

        self._plan = Plan(world)
        #: Steps of the plan that are behind us: what they made happen has happened.
        self._done = 0

    def advance(self, world: World, outcomes: list[_Outcome]) -> tuple[_Outcome, Aim] | None:
        """The outcome farthest ahead along the plan and the aim that it serves, if any is ahead."""
        self._plan.extend(self._done + _HORIZON)
        equal: dict[tuple[Pose, Hashable], int] = {}
        happened: dict[Hashable, int] = {}
        for number, step in enumerate(self._plan.steps[self._done :], start=self._done + 1):
            equal[step.pose, step.arrangement] = number
            if step.arrangement != world.arrangement:
                happened.setdefault(step.arrangement, number)
        reached: list[tuple[int, _Outcome]] = []
        for outcome in outcomes:
            after = outcome.world
            number = max(equal.get((after.pose, after.arrangement), 0), happened.get(after.arrangement, 0))
            if number:
                reached.append((number, outcome))
        if not reached:
            return None
        self._done, chosen = min(reached, key=lambda entry: (-entry[0], entry[1].cost))
        return chosen, self._plan.steps[self._done - 1].aim

    def rejoin(self, world: World, outcomes: list[_Outcome]) -> tuple[_Outcome, Aim] | None:
        """The first step on the shortest way to where the bot would be, if we are elsewhere.

        We are after an action that did what the bot would have done, but from another side.
        """
        poses: dict[Pose, int] = {}
        for number, step in enumerate(self._plan.steps[self._done - 1 :], start=self._done):
            if step.arrangement != world.arrangement:
                break
            poses[step.pose] = number
        way = _way(world, poses)
        if not way:
            return None
        chosen = next(outcome for outcome in outcomes if outcome.action == _BARE[way[0]])
        self._done = poses.get(chosen.world.pose, self._done)
        return chosen, self._plan.steps[self._done - 1].aim


def _outcomes(world: World) -> list[_Outcome]:
    """What the available actions lead to, without those that take no step."""
    outcomes = []
    for action, path in perceive(world.view(), world.heading, parity=False).actions.items():
        if path:
            after = world.copy()
            after.run(path)
            outcomes.append(_Outcome(action, after, (len(after.taken), len(path), action in _BARE.values())))
    return outcomes


def _way(world: World, goals: Mapping[Pose, int]) -> list[int]:
    """Turns and steps on a shortest way to one of some poses; empty if there is none, or we are there."""
    start = (world.position, world.heading)
    came: dict[Pose, tuple[Pose, int]] = {}
    queue = deque([start])
    while queue:
        pose = queue.popleft()
        if pose in goals:
            way = []
            while pose != start:
                pose, action = came[pose]
                way.append(action)
            return way[::-1]
        position, heading = pose
        ahead = position + world.scene.steps[heading]
        following = [(LEFT, (position, (heading - 1) % HEADINGS)), (RIGHT, (position, (heading + 1) % HEADINGS))]
        if world.codes[ahead] == cells.EMPTY or cells.is_open(world.codes[ahead]):
            following.insert(0, (FORWARD, (ahead, heading)))
        for action, target in following:
            if target != start and target not in came:
                came[target] = (pose, action)
                queue.append(target)
    return []
