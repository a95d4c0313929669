"""Refining won episodes: what of them is worth learning.

Success says that an episode ended well, not that each of its turns was good.  The parts combine:

* ``shortest``: of the episodes of a task only the one with the fewest turns;
* ``effective``: no turn whose action did nothing, or was undone later;
* ``cut``: likewise, and such turns are not read either, nor turns by chance that were not needed: what is learnt is the
  episode as if they had never been;
* ``truthful``: no turn whose thought contradicts what was shown.

The environment tells of the turns (:meth:`fedse.environments.base.Environment.review`).  A turn that is left out, and
not cut, is still read, so that the turns after it have their context.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from fedse.agent.renderers import Renderer
from fedse.environments.base import Environment
from fedse.rollout.episode import Episode, EpisodeRequest, reviewed
from fedse.types import Source, StopReason, Task, Trajectory, Turn


def turn_weights(environment: Environment, trajectory: Trajectory, parts: Collection[str]) -> list[float] | None:
    """A factor for each turn, 0 or 1; ``None``: all one, as in demonstrations."""
    if trajectory.source is not Source.POLICY or not {"effective", "truthful"} & set(parts):
        return None
    return [
        float((review.effective or "effective" not in parts) and (review.truthful or "truthful" not in parts))
        for review in reviewed(environment, trajectory.turns, trajectory.final_observation)[1]
    ]


def cut(environment: Environment, renderer: Renderer, trajectory: Trajectory) -> Trajectory:
    """An episode of the agent without its turns in vain, and turns by chance that were not needed.

    Turns in vain left everything as it was, so what the first of them was shown stands before the turn after them.
    Whether a turn was needed is seen by playing the others again.  A demonstration stays as it is.

    Args:
        environment: an instance of its own.
        renderer: of the model's tokenizer.
        trajectory: of an episode.
    """
    if trajectory.source is not Source.POLICY:
        return trajectory
    kept: list[Turn] = []
    shown: str | None = None
    _, reviews = reviewed(environment, trajectory.turns, trajectory.final_observation)
    for turn, review in zip(trajectory.turns, reviews, strict=True):
        shown = turn.observation if shown is None else shown
        if review.effective:
            kept.append(replace(turn, observation=shown))
            shown = None
    left = replace(trajectory, turns=tuple(kept))
    for index in reversed(range(len(kept))):
        # The episode may have become shorter by more than one turn.
        needless = index < len(left.turns) and left.turns[index].by_chance
        if needless and (won := _won(environment, left, without=index)):
            left = won
    if len(left.turns) == len(trajectory.turns):
        return trajectory
    return replace(left, tokens=renderer.render(left) if left.turns else None)


def _won(environment: Environment, trajectory: Trajectory, *, without: int) -> Trajectory | None:
    """The episode, played again without a turn; ``None`` unless it is won."""
    limit = environment.spec.max_turns
    episode = Episode(environment, EpisodeRequest(trajectory.task, trajectory.seed), instruction="", turns=limit)
    episode.start()
    for turn in [*trajectory.turns[:without], *trajectory.turns[without + 1 :]]:
        if episode.stop is None:
            episode.reply(turn.response, truncated=turn.truncated, by_chance=turn.by_chance)
    if episode.stop is not StopReason.DONE or not (again := episode.trajectory(source=Source.POLICY)).success:
        return None
    return replace(trajectory, turns=again.turns, final_observation=again.final_observation)


def shortest(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """The demonstrations, and of the agent's own episodes the shortest of each task; in their order.

    Of episodes with as many turns it is the first.
    """
    items = list(trajectories)
    best: dict[Task, Trajectory] = {}
    for one in items:
        if one.source is Source.POLICY and (one.task not in best or len(one.turns) < len(best[one.task].turns)):
            best[one.task] = one
    return [one for one in items if one.source is not Source.POLICY or best[one.task] is one]
