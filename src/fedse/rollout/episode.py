"""One episode as a small machine that both the schedule of a player and scripted policies drive.

An environment's fault, a reward that is no finite number included, ends the episode as an error with its cause; it is
never an outcome.  A reply that breaks the agent's form is answered in the environment's place and costs a turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fedse.agent.parsing import parse_response
from fedse.config import RolloutConfig
from fedse.environments.base import Environment, EnvironmentSpec
from fedse.errors import EnvironmentFault, boundary
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Limits:
    """What an episode may use.

    Attributes:
        turns: agent turns.
        repeats: how often the same reply to the same observation; ``None``: as often as there are turns.
        response_tokens: tokens of one turn, its end included.
        context: tokens of the whole episode.
    """

    turns: int
    repeats: int | None
    response_tokens: int
    context: int

    @classmethod
    def of(cls, config: RolloutConfig, spec: EnvironmentSpec, max_turns: int | None = None) -> Limits:
        """The site's own turns and the run's settings where given, else the environment's."""
        return cls(
            turns=max_turns or config.max_turns or spec.max_turns,
            repeats=config.max_repeats,
            response_tokens=config.max_response_tokens or spec.max_response_tokens,
            context=config.max_context,
        )


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """An episode to play: the task, and the seed of the episode's own random stream."""

    task: Task
    seed: int


class Episode:
    """An open episode of one environment instance.

    Call :meth:`start` once, then :meth:`reply` until :attr:`stop` is set, then :meth:`trajectory`.
    """

    def __init__(
        self,
        environment: Environment,
        request: EpisodeRequest,
        *,
        instruction: str,
        turns: int,
        repeats: int | None = None,
    ) -> None:
        self.request = request
        self.observation = ""
        self.stop: StopReason | None = None
        self.environment = environment
        self._instruction = instruction
        self._turn_limit = turns
        self._repeat_limit = repeats
        self._said: Counter[tuple[str, str]] = Counter()
        self._turns: list[Turn] = []
        self._error = ""

    def start(self) -> None:
        """Reset the environment; afterwards :attr:`observation` is the first one, or :attr:`stop` is ``ERROR``."""
        task = self.request.task
        self._guarded(f"environment {task.environment!r} failed to reset task {task.id!r}", self._reset)

    def reply(self, response: str, *, truncated: bool = False) -> None:
        """Hand in the agent's text; afterwards :attr:`observation` is the next one, or :attr:`stop` is set."""
        task = self.request.task
        what = f"environment {task.environment!r} failed in turn {len(self._turns) + 1} of task {task.id!r}"
        self._guarded(what, lambda: self._step(response, truncated))

    def cut(self, reason: StopReason) -> None:
        """End the episode from outside, as when the context is full."""
        self.stop = reason

    def fail(self, fault: EnvironmentFault) -> None:
        """End the episode without an outcome, because of a fault outside of it, as of an expert."""
        self.stop = StopReason.ERROR
        self._error = str(fault)

    def trajectory(self, *, source: Source, tokens: TokenRecord | None = None) -> Trajectory:
        """The finished episode."""
        if self.stop is None:
            raise ValueError("the episode is not over")
        failed = self.stop is StopReason.ERROR
        reward = self._turns[-1].reward if self._turns else 0.0
        return Trajectory(
            task=self.request.task,
            source=source,
            instruction=self._instruction,
            turns=tuple(self._turns),
            final_observation=self.observation,
            success=None if failed else reward > self.environment.spec.success_above,
            reward=reward,
            stop=self.stop,
            seed=self.request.seed,
            error=self._error,
            tokens=tokens,
        )

    def _reset(self) -> None:
        self.observation = self.environment.reset(self.request.task)

    def _step(self, response: str, truncated: bool) -> None:
        parsed = parse_response(response, self.environment.spec.action_rule)
        seen = self.observation
        if parsed.error is None:
            result = self.environment.step(parsed.action)
            observation, reward, done = result.observation, float(result.reward), result.done
            if not math.isfinite(reward):
                raise ValueError(f"the reward is {reward}")
        else:
            observation, reward, done = parsed.error, 0.0, False
        self.observation = observation
        self._turns.append(Turn(seen, response, parsed.action, reward, truncated))
        self._said[seen, response] += 1
        if done:
            self.stop = StopReason.DONE
        elif len(self._turns) >= self._turn_limit:
            self.stop = StopReason.TURN_LIMIT
        elif self._said[seen, response] == self._repeat_limit:
            self.stop = StopReason.REPETITION

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            with boundary(EnvironmentFault, what):
                action()
        except EnvironmentFault as fault:
            self.fail(fault)
