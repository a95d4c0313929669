"""The BabyAI expert: MiniGrid's bot, put into the macro actions of the text game."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from fedse.environments.babyai import cells
from fedse.environments.babyai.levels import MAX_TURNS
from fedse.environments.babyai.missions import FORWARD, LEFT, RIGHT, TOGGLE, Status
from fedse.environments.babyai.perception import perceive
from fedse.environments.babyai.thoughts import Aim, Narrator, Purpose, in_sight
from fedse.environments.babyai.world import HEADINGS, Pose, World
from fedse.errors import EnvironmentFault
from fedse.seeding import python_random

#: Steps of the bot's plan in which the expert looks for a state that one action reaches.
_HORIZON = 40

#: Primitive steps that are actions in words of their own.
_BARE = {LEFT: "turn left", RIGHT: "turn right", FORWARD: "move forward", TOGGLE: "toggle"}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Where an action leads."""

    action: str  #: in words
    world: World  #: the state after it
    #: primitive steps taken; among equals an action that would do no more than it does (to go to a thing, rather than
    #: to pick it up and be done on arriving) is better, and one that names a thing
    cost: tuple[int, int, bool]


class BabyAIExpert:
    """Follows the bot's plan in as few actions as it can.

    It is privileged: it plays the episode to its end on copies of the world before it takes the first action.  First
    it plays with a bot that knows only what has been seen.  If that does not succeed within the turn limit, since
    searching many rooms takes long, it plays with a bot that knows what is in all rooms but the locked ones, and so
    happens to search in the right place.  If that fails too, it does as the first one did.

    Args:
        world: the open episode's world; the expert looks at it and does not change it.
        seed: varies the words, not the actions.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._narrator = Narrator(python_random("babyai", "expert", seed))
        self._turns: deque[_Turn] = deque()

    def act(self, observation: str) -> tuple[str, str]:
        """See :class:`~fedse.environments.base.Expert`."""
        world = self._world
        if world.over:
            raise EnvironmentFault(f"the babyai expert cannot act after the end of the episode, on {observation!r}")
        if not self._turns or self._turns[0].state != world.state:
            self._turns = _foresee(world)
        turn = self._turns.popleft()
        if turn.aim is None:
            return self._narrator.finish(world, turn.action), turn.action
        return self._narrator.think(world, turn.action, turn.aim), turn.action


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn of an episode."""

    state: Hashable  #: of the world before it
    action: str  #: in words
    aim: Aim | None  #: why it is taken; ``None`` if it accomplishes the mission


def _foresee(world: World) -> deque[_Turn]:
    turns, won = _played(world, mapped=False)
    if not won:
        lucky, won = _played(world, mapped=True)
        turns = lucky if won else turns
    return turns


def _played(world: World, *, mapped: bool) -> tuple[deque[_Turn], bool]:
    """A full number of turns from a world, and whether they lead to success."""
    pilot = _Pilot(world, mapped=mapped)
    turns: deque[_Turn] = deque()
    while len(turns) < MAX_TURNS and not world.over:
        chosen, aim = pilot.choose(world)
        if mapped and aim is not None and aim.purpose is Purpose.MISSION and not in_sight(world):
            # The agent cannot know that this is the way.
            aim = Aim(Purpose.EXPLORE, "")
        turns.append(_Turn(world.state, chosen.action, aim))
        world = chosen.world
    return turns, world.status is Status.SUCCESS


class _Pilot:
    """Chooses actions by a plan.

    An action that accomplishes the mission is taken; else the one that gets farthest along the plan of the bot.  An
    action gets as far as the last planned state that equals the state after it, or as the first planned state in which
    the same things have happened, wherever the agent stands.
    """

    def __init__(self, world: World, *, mapped: bool) -> None:
        self._mapped = mapped
        self._wandering = python_random("babyai", "wandering", world.scene.level, world.scene.seed, len(world.taken))
        self._course: _Course | None = None

    def choose(self, world: World) -> tuple[_Outcome, Aim | None]:
        """The next action and its aim, ``None`` if it accomplishes the mission."""
        outcomes = _outcomes(world)
        finishing = [outcome for outcome in outcomes if outcome.world.status is Status.SUCCESS]
        if finishing:
            return min(finishing, key=lambda outcome: outcome.cost), None
        if self._course is not None:
            found = self._course.advance(world, outcomes) or self._course.rejoin(world, outcomes)
            if found is not None:
                return found
        self._course = _Course(world, mapped=self._mapped)
        found = self._course.advance(world, outcomes)
        if found is not None:
            return found
        # The bot knows no way, or goes on by something that no action in words does, such as closing a door.
        self._course = None
        harmless = [outcome for outcome in outcomes if not outcome.world.over]
        return self._wandering.choice(harmless or outcomes), Aim(Purpose.EXPLORE, "")


class _Course:
    """A plan, and how far it is carried out."""

    def __init__(self, world: World, *, mapped: bool) -> None:
        # Imported here because it imports MiniGrid, which by now the world has done.
        from fedse.environments.babyai.planning import Plan

        self._plan = Plan(world, mapped=mapped)
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
        if world.codes[ahead] == cells.EMPTY or world.codes[ahead] in cells.OPEN:
            following.insert(0, (FORWARD, (ahead, heading)))
        for action, target in following:
            if target != start and target not in came:
                came[target] = (pose, action)
                queue.append(target)
    return []
