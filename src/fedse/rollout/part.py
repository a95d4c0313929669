"""What every player does alike, wherever the model decodes: the chat of an episode, and a play under way.  No torch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from fedse.agent.parsing import format_response, parse_response
from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.environments.base import Environment
from fedse.errors import EnvironmentFault
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.rollout.player import Play, RolloutProgress
from fedse.seeding import python_random
from fedse.types import Source, StopReason, TokenRecord, Trajectory

_TOLD_SECONDS = 0.25


class Chat:
    """An open episode and its tokens: what the model reads, and what it says.

    Args:
        episode: not yet started.
        renderer: of the model's tokenizer.
        reply_tokens: the most that a reply may have.
        max_context: the most tokens of the whole chat.
        unstick: see :class:`~fedse.rollout.player.Rules`.

    Attributes:
        ids: the chat so far.
    """

    def __init__(
        self,
        episode: Episode,
        renderer: Renderer,
        *,
        reply_tokens: int,
        max_context: int,
        unstick: bool = False,
    ) -> None:
        self.episode = episode
        self.ids: list[int] = []
        self.reply_tokens = reply_tokens
        self._renderer, self._max_context = renderer, max_context
        self._spans: list[tuple[int, int]] = []
        self._logprobs: list[float] = []
        self._ways: Sequence[str] = ()
        self._unstick = unstick
        self._chance = python_random("unstick", episode.request.seed)

    def open(self, instruction: str) -> None:
        """Start the episode; one whose prompt leaves no room for a reply ends as an error."""
        self.episode.start()
        if self.episode.stop is not None:
            return
        self.ids = self._renderer.opening(instruction, self.episode.observation)
        if len(self.ids) + self.reply_tokens > self._max_context:
            self.episode.fail(
                EnvironmentFault(
                    f"the prompt of task {self.episode.request.task} takes {len(self.ids)} tokens and a reply up to "
                    f"{self.reply_tokens}, more than rollout.max_context = {self._max_context}",
                    "begin a new run with a larger rollout.max_context, or with agent.prompt=concise",
                )
            )

    def say(self, reply: Sequence[int], logprobs: Sequence[float]) -> None:
        """Hand in a reply; afterwards ``ids`` goes on with it, and with what the model reads before its next one.

        Where chance takes the action, ``ids`` has that one behind the thought of the reply.

        Args:
            reply: at least one token; cut if the last one is no stop token.
            logprobs: of its tokens, as in a :class:`~fedse.types.TokenRecord`.
        """
        chosen = self._chosen(reply, logprobs) if self._ways else None
        reply, logprobs = chosen or (reply, logprobs)
        truncated = reply[-1] not in self._renderer.stop_tokens
        start = len(self.ids)
        self.ids += reply
        self._spans.append((start, len(self.ids)))
        self._logprobs += logprobs
        self.episode.reply(self._renderer.decode(reply), truncated=truncated, by_chance=chosen is not None)
        if self.episode.stop is not None:
            return
        # A turn that was cut is closed for the model's sake; it did not sample that token, so no span covers it.
        closing = [self._renderer.end_token] if truncated else []
        between = closing + self._renderer.continuation(self.episode.observation)
        if len(self.ids) + len(between) + self.reply_tokens > self._max_context:
            self.episode.stop = StopReason.CONTEXT_LIMIT
            return
        self.ids += between
        # After a turn by chance it is the agent's again, whatever came of it.
        self._ways = self.episode.ways_out() if self._unstick and chosen is None else ()

    def _chosen(self, reply: Sequence[int], logprobs: Sequence[float]) -> tuple[list[int], list[float]] | None:
        """The reply with an action by chance; ``None`` if there is no room for it."""
        thought = parse_response(self._renderer.decode(reply), self.episode.environment.spec.action_rule).thought
        taken = self._renderer.reply(format_response(thought, self._chance.choice(self._ways)))
        if len(taken) > self.reply_tokens:
            return None
        same = common(reply, taken)
        # The action was drawn as a whole, so its first token has the probability of them all.
        drawn = [-math.log(len(self._ways)), *[0.0] * len(taken)]
        return taken, [*logprobs[:same], *drawn[: len(taken) - same]]

    def trajectory(self, temperature: float | None) -> Trajectory:
        """The finished episode.

        Args:
            temperature: of the log-probabilities; ``None`` where nothing was drawn, as in greedy play.
        """
        tokens = None  # of an episode that never began
        if self._spans:
            tokens = TokenRecord(tuple(self.ids), tuple(self._spans), self._renderer.fingerprint)
            if temperature is not None:
                tokens = replace(tokens, logprobs=tuple(self._logprobs), temperature=temperature)
        return self.episode.trajectory(source=Source.POLICY, tokens=tokens)


class Part:
    """A play under way: its limits, its environments that serve no episode now, and what has come of it.

    Args:
        play: what is played.
        config: limits of an episode where neither the rules nor the environment have one, and the temperature.
        renderer: of the model's tokenizer.

    Attributes:
        tokens: generated so far.
    """

    def __init__(self, play: Play, config: RolloutConfig, renderer: Renderer) -> None:
        self.play = play
        self._config, self._renderer = config, renderer
        environment = play.rules.make_environment()
        spec = environment.spec
        self._turns = play.rules.max_turns or config.max_turns or spec.max_turns
        self._reply_tokens = config.max_response_tokens or spec.max_response_tokens
        self._spare: list[Environment] = [environment]
        self._results: list[Trajectory | None] = [None] * len(play.requests)
        self._began = time.monotonic()
        self._told = 0.0
        self.tokens = 0

    @property
    def temperature(self) -> float | None:
        """At which tokens are drawn; ``None``: greedily."""
        rules = self.play.rules
        return None if rules.greedy else rules.temperature or self._config.temperature

    @property
    def longest(self) -> int:
        """The most tokens that an episode can generate."""
        return self._turns * self._reply_tokens

    @property
    def results(self) -> list[Trajectory]:
        """The finished episodes, in the order of their requests."""
        return [result for result in self._results if result is not None]

    def open(self, request: EpisodeRequest) -> Chat:
        """Start an episode.  Threads may do so side by side."""
        try:
            environment = self._spare.pop()
        except IndexError:
            environment = self.play.rules.make_environment()
        instruction = self.play.rules.instruction
        episode = Episode(
            environment, request, instruction=instruction, turns=self._turns, repeats=self._config.max_repeats
        )
        chat = Chat(
            episode,
            self._renderer,
            reply_tokens=self._reply_tokens,
            max_context=self._config.max_context,
            unstick=self.play.rules.unstick,
        )
        chat.open(instruction)
        return chat

    def release(self, chat: Chat) -> None:
        """Take the environment of a finished episode back; what failed once is not trusted with another one."""
        if chat.episode.stop is StopReason.ERROR:
            chat.episode.environment.close()
        else:
            self._spare.append(chat.episode.environment)

    def finish(self, order: int, trajectory: Trajectory) -> None:
        """Keep a finished episode, and tell of it."""
        self._results[order] = trajectory
        self._tell()

    def tell(self, trouble: str = "") -> None:
        """Tell how it goes, if something was done and it is long enough ago; of trouble at once."""
        if trouble or (self.tokens and time.monotonic() - self._began - self._told > _TOLD_SECONDS):
            self._tell(trouble)

    def close(self) -> None:
        """Close the environments that serve no episode."""
        for environment in self._spare:
            environment.close()

    def _tell(self, trouble: str = "") -> None:
        if tell := self.play.on_progress:
            self._told = time.monotonic() - self._began
            successes = sum(result.success is True for result in self.results)
            done, total = len(self.results), len(self._results)
            tell(RolloutProgress(done, total, successes, self.tokens, self._told, trouble))


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts share from the start."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
