"""What plays episodes with a model: an adapter and requests go in, trajectories come out.

Episodes of several sites and environments that play with the same adapter go in together, so that they share forward
passes.  Which others are in a batch changes no episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedse.adapters.state import AdapterState
from fedse.environments.base import Environment
from fedse.rollout.episode import EpisodeRequest
from fedse.types import Trajectory


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all episodes of a phase.

    Attributes:
        make_environment: makes an environment instance; one serves one episode at a time.
        instruction: the system message.
        greedy: take the most likely token instead of sampling.
        max_turns: of an episode, instead of the configured number.
        temperature: of sampling, instead of the configured one.
        unstick: after a turn in vain, chance takes the next action, from what the environment offers.
    """

    make_environment: Callable[[], Environment]
    instruction: str
    greedy: bool
    max_turns: int | None = None
    temperature: float | None = None
    unstick: bool = False


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Where a rollout stands.

    Attributes:
        done, total: episodes.
        successes: among those done.
        tokens: generated so far.
        seconds: so far.
        trouble: what holds the rollout up, in words, as an endpoint that does not answer; empty if nothing does.
    """

    done: int
    total: int
    successes: int
    tokens: int
    seconds: float
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Play:
    """Episodes under the same rules, as one phase of a site asks for them.

    Attributes:
        requests: what to play.
        rules: how.
        on_progress: told of these episodes after every finished one, and now and then in between.
    """

    requests: Sequence[EpisodeRequest]
    rules: Rules
    on_progress: Callable[[RolloutProgress], None] | None = None


class Player(Protocol):
    """Plays many episodes with one adapter."""

    def play(self, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        """Play one episode per request.

        Args:
            adapter: plays; ``None`` is the bare base model.
            plays: what to play, and how.

        Returns:
            For each play its trajectories in the order of its requests.  An environment's fault, or a prompt that
            leaves no room for a reply within ``max_context``, comes back as a trajectory with ``stop`` ``ERROR``.

        Raises:
            AdapterError: if the adapter does not fit the model.
            ModelError: if the player cannot play with the model.
            EndpointError: if the episodes are played elsewhere, and it cannot be used or was away for too long.
        """
