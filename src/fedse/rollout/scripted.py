"""Episodes played by something other than the model: an expert, a person, a script in a test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from fedse.agent.parsing import format_response
from fedse.agent.renderers import Renderer
from fedse.environments.base import Environment
from fedse.errors import EnvironmentFault, MismatchFault, boundary
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.seeding import derive_seed
from fedse.types import Source, StopReason, Task, Trajectory

#: Tasks on which a server may play something else than our environment, and tasks that may be lost to faults even where
#: that is most of those tried, before demonstrations are refused.
_FEW = 3


class Policy(Protocol):
    """Anything that answers an observation with a full reply (thought and action)."""

    def act(self, observation: str) -> str:
        """The reply to what the environment just said."""


class ExpertPolicy:
    """The environment's own expert, in the reply format.

    Args:
        environment: has been reset; an expert may look at the opened episode.
        seed: varies the expert's words and choices.
        thoughts: whether it tells them.

    Raises:
        EnvironmentFault: if the expert cannot be made, or here and in :meth:`act` raises anything; it is a part of its
            environment.
    """

    def __init__(self, environment: Environment, seed: int, *, thoughts: bool = True) -> None:
        self._thoughts = thoughts
        with boundary(EnvironmentFault, f"the expert of {environment.name!r} cannot be made"):
            self._expert = environment.expert(seed)

    def act(self, observation: str) -> str:
        """The expert's action, after its thought if it tells that."""
        with boundary(EnvironmentFault, "the expert failed"):
            thought, action = self._expert.act(observation)
        return format_response(thought if self._thoughts else "", action)


def play(
    environment: Environment,
    request: EpisodeRequest,
    make_policy: Callable[[Environment], Policy],
    *,
    instruction: str,
    source: Source,
    turns: int | None = None,
    on_turn: Callable[[Episode], None] | None = None,
) -> Trajectory:
    """Play one episode by a scripted policy.

    Args:
        environment: an instance of its own.
        request: what to play.
        make_policy: called once the environment is reset, because an expert may look at the opened episode.
        instruction: the system message that the trajectory records.
        source: who acts.
        turns: turn limit; the environment's own by default.
        on_turn: called after the reset and after every turn, to watch.

    Returns:
        The trajectory, without tokens; with ``stop`` ``ERROR`` if the environment or its expert failed.

    Raises:
        MismatchFault: if the expert of an environment on a server finds that the server plays something else.
    """
    episode = Episode(environment, request, instruction=instruction, turns=turns or environment.spec.max_turns)
    episode.start()
    try:
        policy = make_policy(environment) if episode.stop is None else None
        while episode.stop is None and policy is not None:
            if on_turn:
                on_turn(episode)
            episode.reply(policy.act(episode.observation))
    except MismatchFault:
        raise
    except EnvironmentFault as fault:
        episode.fail(fault)
    if on_turn:
        on_turn(episode)
    return episode.trajectory(source=source)


def demonstrate(
    environment: Environment,
    tasks: Sequence[Task],
    count: int,
    *,
    instruction: str,
    seed: int,
    renderer: Renderer | None = None,
    turns: int | None = None,
    thoughts: bool = True,
    longest: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_lost: Callable[[EnvironmentFault], None] | None = None,
) -> list[Trajectory]:
    """Successful expert episodes: the first tasks once each, then again with other words, until there are ``count``.

    Args:
        environment: an instance of its own.
        tasks: to demonstrate, in order.
        count: demonstrations wanted.
        instruction: the system message that the trajectories record.
        seed: varies the expert's words and choices.
        renderer: renders token records, if given.
        turns: turn limit; the environment's own by default.
        thoughts: whether the expert tells them.
        longest: tokens that an episode may have where a renderer counts them; longer ones are left out.
        on_progress: told (done, wanted).
        on_lost: told of each task that a fault took, or on which a server plays something else than our environment
            does; once a task.

    Returns:
        At most ``count`` trajectories; fewer only if a whole pass over the tasks gave none.

    Raises:
        EnvironmentFault: if every episode of a pass over the tasks was lost to a fault, or more than a few tasks and
            most of those tried.  Also if a server plays something else on more than a few tasks: the others would be
            those that both happen to have alike.
    """
    lost: dict[Task, EnvironmentFault] = {}
    tried: set[Task] = set()
    found: list[Trajectory] = []
    attempts = itertools.count()
    while len(found) < count and tasks:
        before = len(found)
        faults: list[str] = []
        for task in tasks:
            if len(found) >= count:
                break
            tried.add(task)
            expert_seed = derive_seed(seed, "expert", str(task), next(attempts))
            fault: EnvironmentFault | None = None
            try:
                trajectory = play(
                    environment,
                    EpisodeRequest(task, expert_seed),
                    partial(ExpertPolicy, seed=expert_seed, thoughts=thoughts),
                    instruction=instruction,
                    source=Source.EXPERT,
                    turns=turns,
                )
                if trajectory.stop is StopReason.ERROR:
                    fault = EnvironmentFault(f"{task} was lost to a fault: {trajectory.error}")
            except MismatchFault as mismatch:
                fault = mismatch
            if fault is not None:
                faults.append(fault.what)
                if task not in lost and on_lost:
                    on_lost(fault)
                lost[task] = fault
                _refuse_if_many(environment.name, list(lost.values()), len(tried))
                continue
            tokens = renderer.render(trajectory) if renderer and trajectory.success else None
            is_long = tokens is not None and longest is not None and len(tokens.ids) > longest
            if trajectory.success and not is_long:
                found.append(replace(trajectory, tokens=tokens))
                if on_progress:
                    on_progress(len(found), count)
        if len(faults) == len(tasks):
            raise EnvironmentFault(f"all {len(faults)} expert episodes were lost to faults; the first: {faults[0]}")
        if len(found) == before:
            break
    return found


def _refuse_if_many(name: str, lost: Sequence[EnvironmentFault], tried: int) -> None:
    last = lost[-1]
    other = sum(isinstance(fault, MismatchFault) for fault in lost)
    if other > _FEW:
        raise EnvironmentFault(
            f"on {other} of {tried} tasks the server of {name} plays something else than our environment does; "
            f"{last.what}",
            last.mend,
        ) from last
    if len(lost) > _FEW and 2 * len(lost) > tried:
        raise EnvironmentFault(
            f"{len(lost)} of {tried} tasks of {name} were lost to faults; {last.what}",
            "mend the environment; a server that has other options than the site leaves tasks out",
        ) from last
