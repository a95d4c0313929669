"""Which episode decodes when: the queue, the slots, and the turns of the episodes in them.  No torch.

History is never read twice: a slot's keys and values stay from turn to turn, and the prompt prefix that all episodes of
a play share is read once and copied.  A slot is refilled as soon as its episode ends, from whatever play, and slots
that decode share a forward pass with slots that read an observation.

What a decoder is given of an episode depends on that episode alone: a piece is never cut to make room for others.  So a
decoder whose rows do not depend on each other plays every episode alike in any company, also when a run that was killed
plays a part of the episodes again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.environments.base import Environment
from fedse.errors import EnvironmentFault
from fedse.rollout.episode import Episode
from fedse.rollout.player import Play, RolloutProgress
from fedse.seeding import numpy_generator
from fedse.types import Source, StopReason, TokenRecord, Trajectory

#: Prompt tokens read in one forward pass, unless one piece alone has more; bounds memory when prompts come all at once.
PASS_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Draw:
    """The next token after a piece is to be drawn.

    Attributes:
        piece: index of the piece.
        uniform: a number in [0, 1) that decides; ``None`` takes the most likely token.
        temperature: divides the logits.
    """

    piece: int
    uniform: float | None
    temperature: float


class Decoder(Protocol):
    """Token histories side by side, each with a number, and a model that continues them."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each history."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` tokens of ``source``'s history."""

    def decode(self, pieces: Sequence[tuple[int, Sequence[int]]], draws: Sequence[Draw]) -> list[tuple[int, float]]:
        """Append tokens to histories, in one forward pass, and draw the next token of some.

        Args:
            pieces: (history, new token ids), each history at most once, at least one token each.
            draws: what comes after which pieces.

        Returns:
            Of each draw the token id and its log-probability under softmax(logits / temperature), in nats; tokens that
            are excluded from drawing keep their share.
        """


@dataclass(eq=False)
class _Part:
    """A play: its limits, its environments that serve no episode now, and what has come of it."""

    play: Play
    prefix: int
    turns: int
    reply_tokens: int
    results: list[Trajectory | None]
    spare: list[Environment]
    shared: list[int] = field(default_factory=list)
    tokens: int = 0
    told: float = 0.0


@dataclass(eq=False)
class _Slot:
    """A running episode and its tokens.

    ``ids`` is the chat up to the ``reply`` that is being made; ``pending`` are the tokens that the decoder has to read
    before it can go on.
    """

    index: int
    part: _Part
    order: int
    episode: Episode
    generator: np.random.Generator
    ids: list[int]
    pending: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)


class Schedule:
    """Plays on a decoder; see :class:`~fedse.rollout.player.Player`.

    Args:
        decoder: with a history for every slot, and one more for each play, for the prefix that its prompts share.
        renderer: of the model's tokenizer.
        config: limits of an episode, and the temperature where the rules have none.
        plays: what to play.
    """

    def __init__(self, decoder: Decoder, renderer: Renderer, config: RolloutConfig, plays: Sequence[Play]) -> None:
        self._decoder = decoder
        self._renderer = renderer
        self._config = config
        self._slots = len(decoder.lengths) - len(plays)
        self._parts: list[_Part] = []
        self._running: list[_Slot] = []
        self._began = time.monotonic()
        try:
            for play in plays:
                self._parts.append(self._part(play, self._slots + len(self._parts)))
        except BaseException:
            self._close()
            raise
        # Episodes that may become long begin first, so that few slots are busy with the last ones alone.
        longest_first = sorted(self._parts, key=lambda part: -part.turns * part.reply_tokens)
        self._queue = deque(
            (part, order, request) for part in longest_first for order, request in enumerate(part.play.requests)
        )

    def play(self) -> list[list[Trajectory]]:
        """For each play its trajectories, in the order of its requests."""
        try:
            while self._queue or self._running:
                self._fill()
                if self._running:
                    self._advance()
        finally:
            self._close()
        return [[result for result in part.results if result is not None] for part in self._parts]

    def _part(self, play: Play, prefix: int) -> _Part:
        environment = play.rules.make_environment()
        spec, config = environment.spec, self._config
        turns = play.rules.max_turns or config.max_turns or spec.max_turns
        reply_tokens = config.max_response_tokens or spec.max_response_tokens
        return _Part(play, prefix, turns, reply_tokens, [None] * len(play.requests), [environment])

    def _close(self) -> None:
        spare = [environment for part in self._parts for environment in part.spare]
        for environment in [*spare, *(slot.episode.environment for slot in self._running)]:
            environment.close()

    def _fill(self) -> None:
        """Start episodes in free slots."""
        while self._queue and len(self._running) < self._slots:
            part, order, request = self._queue.popleft()
            rules = part.play.rules
            environment = part.spare.pop() if part.spare else rules.make_environment()
            repeats = self._config.max_repeats
            episode = Episode(environment, request, instruction=rules.instruction, turns=part.turns, repeats=repeats)
            episode.start()
            ids = self._opening(part, episode)
            generator = numpy_generator("episode", request.seed)
            slot = _Slot(len(self._running), part, order, episode, generator, ids)
            if episode.stop is not None:
                self._finish(slot)
                continue
            self._running.append(slot)
            if not part.shared:
                self._read_prefix(part)
            # At least one token must remain to be read, for its logits.
            shared = min(_common(part.shared, ids), len(ids) - 1)
            self._decoder.copy(part.prefix, slot.index, shared)
            slot.pending = ids[shared:]

    def _opening(self, part: _Part, episode: Episode) -> list[int]:
        """The prompt of an episode; one without room for a reply ends it as an error."""
        if episode.stop is not None:
            return []
        ids = self._renderer.opening(part.play.rules.instruction, episode.observation)
        if len(ids) + part.reply_tokens > self._config.max_context:
            episode.fail(
                EnvironmentFault(
                    f"the prompt of task {episode.request.task} takes {len(ids)} tokens and a reply up to "
                    f"{part.reply_tokens}, more than rollout.max_context = {self._config.max_context}",
                    "begin a new run with a larger rollout.max_context, or with agent.prompt=concise",
                )
            )
        return ids

    def _read_prefix(self, part: _Part) -> None:
        """Read what the prompts of a play share because of their instruction, whatever the observation."""
        some, other = (self._renderer.opening(part.play.rules.instruction, observation) for observation in ("a", "0"))
        part.shared = some[: _common(some, other)]
        for start in range(0, len(part.shared), PASS_TOKENS):
            self._decoder.decode([(part.prefix, part.shared[start : start + PASS_TOKENS])], [])

    def _advance(self) -> None:
        """One forward pass, one token for every slot that has read all it was given."""
        room = PASS_TOKENS
        pieces: list[tuple[int, list[int]]] = []
        ready: list[_Slot] = []
        draws: list[Draw] = []
        for slot in sorted(self._running, key=lambda slot: len(slot.pending) > 1):  # who decodes is never kept waiting
            piece = slot.pending[:PASS_TOKENS]
            if len(piece) > room and pieces:
                continue
            room -= len(piece)
            slot.pending = slot.pending[len(piece) :]
            if not slot.pending:
                ready.append(slot)
                draws.append(self._draw(len(pieces), slot))
            pieces.append((slot.index, piece))
        for slot, (token, logprob) in zip(ready, self._decoder.decode(pieces, draws), strict=True):
            slot.part.tokens += 1
            slot.reply.append(token)
            slot.logprobs.append(logprob)
            slot.pending = [token]
            ended = token in self._renderer.stop_tokens
            if ended or len(slot.reply) >= slot.part.reply_tokens:
                self._end_turn(slot, truncated=not ended)
        for part in self._parts:
            self._tell(part, force=False)

    def _draw(self, piece: int, slot: _Slot) -> Draw:
        rules = slot.part.play.rules
        uniform = None if rules.greedy else float(slot.generator.random())
        return Draw(piece, uniform, rules.temperature or self._config.temperature)

    def _end_turn(self, slot: _Slot, *, truncated: bool) -> None:
        start = len(slot.ids)
        slot.ids += slot.reply
        slot.spans.append((start, len(slot.ids)))
        slot.episode.reply(self._renderer.decode(slot.reply), truncated=truncated)
        slot.reply = []
        if slot.episode.stop is None:
            # A turn that was cut is closed for the model's sake; it did not sample that token, so no span covers it.
            closing = [self._renderer.end_token] if truncated else []
            between = closing + self._renderer.continuation(slot.episode.observation)
            if len(slot.ids) + len(between) + slot.part.reply_tokens <= self._config.max_context:
                slot.ids += between
                slot.pending += between
                return
            slot.episode.stop = StopReason.CONTEXT_LIMIT
        self._finish(slot)
        self._release(slot)

    def _finish(self, slot: _Slot) -> None:
        part, rules = slot.part, slot.part.play.rules
        tokens = None  # of an episode that never began
        if slot.spans:
            tokens = TokenRecord(tuple(slot.ids), tuple(slot.spans), self._renderer.fingerprint)
            if not rules.greedy:
                temperature = rules.temperature or self._config.temperature
                tokens = replace(tokens, logprobs=tuple(slot.logprobs), temperature=temperature)
        part.results[slot.order] = slot.episode.trajectory(source=Source.POLICY, tokens=tokens)
        if slot.episode.stop is StopReason.ERROR:
            slot.episode.environment.close()  # what failed once is not trusted with another episode
        else:
            part.spare.append(slot.episode.environment)
        self._tell(part, force=True)

    def _release(self, slot: _Slot) -> None:
        """Free a slot; the last one moves into the gap, because a forward pass costs as much as the highest in use."""
        last = self._running.pop()
        if last is not slot:
            self._decoder.copy(last.index, slot.index, self._decoder.lengths[last.index])
            last.index = slot.index
            self._running[last.index] = last

    def _tell(self, part: _Part, *, force: bool) -> None:
        now = time.monotonic() - self._began
        tell = part.play.on_progress
        if tell and (force or (part.tokens and now - part.told > 0.25)):
            part.told = now
            finished = [result for result in part.results if result is not None]
            successes = sum(result.success is True for result in finished)
            tell(RolloutProgress(len(finished), len(part.results), successes, part.tokens, now))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two prompts share from the start."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
