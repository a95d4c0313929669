"""What clients hold and what they played: the experience store round by round, and rewards by episode length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedse.types import Source, StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class Buffer:
    """The experience of a client at the end of a round.

    Attributes:
        episodes: all episodes stored so far.
        demonstrations, fresh: those not played by the policy, and those that it added in this round.
        tasks: different tasks among all.
        turns: mean turns of an episode; NaN for an empty store.
    """

    episodes: int
    demonstrations: int
    fresh: int
    tasks: int
    turns: float


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Explored episodes of about one length, ``shortest`` to ``longest`` turns, both included.

    Attributes:
        episodes: with an outcome.
        successes: among them.
        reward: mean reward of the last step.
    """

    shortest: int
    longest: int
    episodes: int
    successes: int
    reward: float


def buffer_at(stored: Sequence[Trajectory], number: int) -> Buffer:
    """The state of a store, of which ``stored`` is all, at the end of a round; 0 is after the demonstrations."""
    held = [trajectory for trajectory in stored if trajectory.round <= number]
    played = [trajectory for trajectory in held if trajectory.source is Source.POLICY]
    return Buffer(
        episodes=len(held),
        demonstrations=len(held) - len(played),
        fresh=sum(trajectory.round == number for trajectory in played),
        tasks=len({trajectory.task for trajectory in held}),
        turns=sum(len(trajectory.turns) for trajectory in held) / len(held) if held else float("nan"),
    )


def rewards_by_length(trajectories: Iterable[Trajectory]) -> list[LengthBin]:
    """Success and mean reward of episodes with 0–1, 2, 3–4, 5–8, 9–16, … turns; bins without episodes are left out.

    Episodes lost to faults have no outcome and are in no bin.
    """
    bins: dict[int, list[Trajectory]] = {}
    for trajectory in trajectories:
        if trajectory.stop is not StopReason.ERROR:
            bins.setdefault(max(0, len(trajectory.turns) - 1).bit_length(), []).append(trajectory)
    return [
        LengthBin(
            shortest=2 ** (power - 1) + 1 if power else 0,
            longest=2**power,
            episodes=len(episodes),
            successes=sum(bool(trajectory.success) for trajectory in episodes),
            reward=sum(trajectory.reward for trajectory in episodes) / len(episodes),
        )
        for power, episodes in sorted(bins.items())
    ]
