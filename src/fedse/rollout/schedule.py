"""Which episode decodes when: the queue, the slots, and the turns of the episodes in them.  No torch.

History is never read twice: a slot's keys and values stay from turn to turn, and the prompt prefix that all episodes
share is read once and copied.  A slot is refilled as soon as its episode ends, and slots that decode share a forward
pass with slots that read an observation.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.errors import EnvironmentFault
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.rollout.player import RolloutProgress, Rules
from fedse.seeding import numpy_generator
from fedse.types import Source, StopReason, TokenRecord, Trajectory

#: Prompt tokens read in one forward pass, at most; bounds memory when long prompts come all at once.
PASS_TOKENS = 4096


class Decoder(Protocol):
    """Token histories side by side, each with a number, and a model that continues them."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each history."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` tokens of ``source``'s history."""

    def decode(
        self, pieces: Sequence[tuple[int, Sequence[int]]], drawn: Sequence[int], uniforms: np.ndarray | None
    ) -> list[int]:
        """Append tokens to histories, in one forward pass, and draw the next token of some.

        Args:
            pieces: (history, new token ids), each history at most once, at least one token each.
            drawn: indices into ``pieces``: what is drawn comes after these.
            uniforms: a number in [0, 1) for each draw; ``None`` takes the most likely tokens.

        Returns:
            Token ids, one per draw.
        """


@dataclass(eq=False)
class _Slot:
    """A running episode and its tokens.

    ``ids`` is the chat up to the ``reply`` that is being made; ``pending`` are the tokens that the decoder has to read
    before it can go on.
    """

    index: int
    order: int
    episode: Episode
    generator: np.random.Generator
    ids: list[int]
    pending: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)


class Schedule:
    """Plays one phase on a decoder; see :class:`~fedse.rollout.player.Player`.

    Args:
        decoder: with a history for every slot, and one more for the prefix that the prompts share.
        renderer: of the model's tokenizer.
        config: limits of an episode.
        requests: at least one.
        rules, on_progress: as of a player.
    """

    def __init__(
        self,
        decoder: Decoder,
        renderer: Renderer,
        config: RolloutConfig,
        requests: Sequence[EpisodeRequest],
        rules: Rules,
        on_progress: Callable[[RolloutProgress], None] | None = None,
    ) -> None:
        self._decoder = decoder
        self._renderer = renderer
        self._rules = rules
        self._spare = [rules.make_environment()]
        spec = self._spare[0].spec
        self._turns = rules.max_turns or config.max_turns or spec.max_turns
        self._repeats, self._context = config.max_repeats, config.max_context
        self._reply_tokens = config.max_response_tokens or spec.max_response_tokens
        self._queue = deque(enumerate(requests))
        self._results: list[Trajectory | None] = [None] * len(requests)
        self._running: list[_Slot] = []
        self._slots = len(decoder.lengths) - 1
        self._prefix: list[int] = []
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._told = 0.0
        self._tokens = 0

    def play(self) -> list[Trajectory]:
        """The trajectories in the order of the requests."""
        try:
            while self._queue or self._running:
                self._fill()
                if self._running:
                    self._advance()
        finally:
            for environment in [*self._spare, *(slot.episode.environment for slot in self._running)]:
                environment.close()
        return [result for result in self._results if result is not None]

    def _fill(self) -> None:
        """Start episodes in free slots.  The first ones together show the prefix that all prompts share."""
        fresh: list[_Slot] = []
        while self._queue and len(self._running) < self._slots:
            order, request = self._queue.popleft()
            environment = self._spare.pop() if self._spare else self._rules.make_environment()
            instruction, turns, repeats = self._rules.instruction, self._turns, self._repeats
            episode = Episode(environment, request, instruction=instruction, turns=turns, repeats=repeats)
            episode.start()
            ids = self._opening(episode)
            slot = _Slot(len(self._running), order, episode, numpy_generator("episode", request.seed), ids)
            if episode.stop is not None:
                self._finish(slot)
                continue
            fresh.append(slot)
            self._running.append(slot)
        if fresh and not self._prefix:
            self._read_prefix([slot.ids for slot in fresh])
        for slot in fresh:
            # At least one token must remain to be read, for its logits.
            shared = min(_common(self._prefix, slot.ids), len(slot.ids) - 1)
            self._decoder.copy(self._slots, slot.index, shared)
            slot.pending = slot.ids[shared:]

    def _opening(self, episode: Episode) -> list[int]:
        """The prompt of an episode; one without room for a reply ends it as an error."""
        if episode.stop is not None:
            return []
        ids = self._renderer.opening(self._rules.instruction, episode.observation)
        if len(ids) + self._reply_tokens > self._context:
            episode.fail(
                EnvironmentFault(
                    f"the prompt of task {episode.request.task} takes {len(ids)} tokens and a reply up to "
                    f"{self._reply_tokens}, more than rollout.max_context = {self._context}",
                    "begin a new run with a larger rollout.max_context, or with agent.prompt=concise",
                )
            )
        return ids

    def _read_prefix(self, openings: Sequence[list[int]]) -> None:
        self._prefix = openings[0][: min(_common(openings[0], opening) for opening in openings)]
        for start in range(0, len(self._prefix), PASS_TOKENS):
            self._decoder.decode([(self._slots, self._prefix[start : start + PASS_TOKENS])], [], None)

    def _advance(self) -> None:
        """One forward pass, one token for every slot that has read all it was given."""
        room = PASS_TOKENS
        pieces: list[tuple[int, list[int]]] = []
        ready: dict[int, _Slot] = {}
        for slot in self._running:
            if piece := slot.pending[:room]:
                room -= len(piece)
                slot.pending = slot.pending[len(piece) :]
                if not slot.pending:
                    ready[len(pieces)] = slot
                pieces.append((slot.index, piece))
        uniforms = None if self._rules.greedy else np.array([slot.generator.random() for slot in ready.values()])
        tokens = self._decoder.decode(pieces, list(ready), uniforms)
        self._tokens += len(tokens)
        for slot, token in zip(ready.values(), tokens, strict=True):
            slot.reply.append(token)
            slot.pending = [token]
            ended = token in self._renderer.stop_tokens
            if ended or len(slot.reply) >= self._reply_tokens:
                self._end_turn(slot, truncated=not ended)
        self._tell(force=False)

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
            if len(slot.ids) + len(between) + self._reply_tokens <= self._context:
                slot.ids += between
                slot.pending += between
                return
            slot.episode.stop = StopReason.CONTEXT_LIMIT
        self._finish(slot)
        self._release(slot)

    def _finish(self, slot: _Slot) -> None:
        tokens = None  # of an episode that never began
        if slot.spans:
            tokens = TokenRecord(tuple(slot.ids), tuple(slot.spans), self._renderer.fingerprint)
        self._results[slot.order] = slot.episode.trajectory(source=Source.POLICY, tokens=tokens)
        if slot.episode.stop is StopReason.ERROR:
            slot.episode.environment.close()  # what failed once is not trusted with another episode
        else:
            self._spare.append(slot.episode.environment)
        self._tell(force=True)

    def _release(self, slot: _Slot) -> None:
        """Free a slot; the last one moves into the gap, because a forward pass costs as much as the highest in use."""
        last = self._running.pop()
        if last is not slot:
            self._decoder.copy(last.index, slot.index, self._decoder.lengths[last.index])
            last.index = slot.index
            self._running[last.index] = last

    def _tell(self, *, force: bool) -> None:
        now = time.monotonic() - self._began
        if self._on_progress and (force or now - self._told > 0.25):
            self._told = now
            finished = [result for result in self._results if result is not None]
            successes = sum(result.success is True for result in finished)
            self._on_progress(RolloutProgress(len(finished), len(self._results), successes, self._tokens, now))


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two prompts share from the start."""
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
