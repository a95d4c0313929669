"""One episode as a small machine that both the schedule of a player and scripted policies drive.

An environment's fault, a reward that is no finite number included, ends the episode as an error with its cause; it is
never an outcome.  A reply that breaks the agent's form is answered in the environment's place and costs a turn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fedse.agent.parsing import parse_response
from fedse.environments.base import Environment
from fedse.environments.review import Review, Seen
from fedse.errors import EnvironmentFault, boundary
from fedse.texts import well_formed
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """An episode to play: the task, and the seed of the episode's own random stream."""

    task: Task
    seed: int


def reviewed(environment: Environment, turns: Sequence[Turn], answer: str) -> tuple[list[Seen], list[Review]]:
    """The turns of an episode as the environment's reader has them, and what it tells of each.

    Args:
        environment: of the kind in which they were played.
        turns: from the first one on.
        answer: to the last one.
    """
    parsed = [parse_response(turn.response, environment.spec.action_rule) for turn in turns]
    answers = [*(turn.observation for turn in turns[1:]), answer]
    seen = [
        Seen(turn.observation, read.thought, turn.action, answered)
        for turn, read, answered in zip(turns, parsed, answers, strict=False)
    ]
    # A reply that broke the form never came to the environment.
    reviews = [
        review if read.error is None else replace(review, effective=False)
        for review, read in zip(environment.review(seen), parsed, strict=True)
    ]
    return seen, reviews


class Episode:
    """An open episode of one environment instance, of at most so many turns, and repeats of a reply to an observation.

    Call :meth:`start` once, then :meth:`reply` until :attr:`stop` is set, then :meth:`trajectory`.  The caller may set
    :attr:`stop` as well, as when the context is full.
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
        self.environment, self.request = environment, request
        self.observation = ""
        self.stop: StopReason | None = None
        self._instruction = instruction
        self._turn_limit, self._repeat_limit = turns, repeats
        self._said: Counter[tuple[str, str]] = Counter()
        self._turns: list[Turn] = []
        self._error = ""

    def start(self) -> None:
        """Reset the environment; afterwards :attr:`observation` is the first one, or :attr:`stop` is ``ERROR``."""
        task = self.request.task
        with self._guarded(f"environment {task.environment!r} failed to reset task {task.id!r}"):
            self.observation = well_formed(self.environment.reset(task))

    def reply(self, response: str, *, truncated: bool = False, by_chance: bool = False) -> None:
        """Hand in the agent's text; afterwards :attr:`observation` is the next one, or :attr:`stop` is set."""
        task = self.request.task
        what = f"environment {task.environment!r} failed in turn {len(self._turns) + 1} of task {task.id!r}"
        with self._guarded(what):
            self._step(response, truncated, by_chance)

    def ways_out(self) -> Sequence[str]:
        """Actions that the environment offers after a turn in vain; none after any other."""
        what = f"environment {self.request.task.environment!r} failed to read an episode of it"
        with self._guarded(what):
            seen, reviews = reviewed(self.environment, self._turns, self.observation)
            if not reviews[-1].effective:
                return self.environment.offers(seen)
        return ()

    def fail(self, fault: EnvironmentFault) -> None:
        """End the episode without an outcome, because of a fault outside of it, as of an expert."""
        self.stop = StopReason.ERROR
        self._error = well_formed(str(fault))

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

    def _step(self, response: str, truncated: bool, by_chance: bool) -> None:
        response = well_formed(response)
        parsed = parse_response(response, self.environment.spec.action_rule)
        seen = self.observation
        if parsed.error is None:
            result = self.environment.step(parsed.action)
            observation, reward, done = well_formed(result.observation), float(result.reward), result.done
            if not math.isfinite(reward):
                raise ValueError(f"the reward is {reward}")
        else:
            observation, reward, done = parsed.error, 0.0, False
        self.observation = observation
        self._turns.append(Turn(seen, response, parsed.action, reward, truncated, by_chance))
        self._said[seen, response] += 1
        if done:
            self.stop = StopReason.DONE
        elif len(self._turns) >= self._turn_limit:
            self.stop = StopReason.TURN_LIMIT
        elif self._said[seen, response] == self._repeat_limit:
            self.stop = StopReason.REPETITION

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            with boundary(EnvironmentFault, what):
                yield
        except EnvironmentFault as fault:
            self.fail(fault)
