"""Which episode decodes when: the queue, the slots, and the turns of the episodes in them.  No torch.

History is never read twice: a slot's keys and values stay from turn to turn, and the prompt prefix that all episodes of
a play share is read once and copied.  A slot is refilled as soon as its episode ends, from whatever play, and slots
that decode share a forward pass with slots that read an observation.

What a decoder is given of an episode depends on that episode alone: a piece is never cut to make room for others.  So a
decoder whose rows do not depend on each other plays every episode alike in any company, also when a run that was killed
plays a part of the episodes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.rollout.part import Chat, Part, common
from fedse.rollout.player import Play
from fedse.seeding import numpy_generator
from fedse.types import Trajectory

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
class _Prefix:
    """The history that holds what all prompts of a play begin with, and its tokens once they are read."""

    history: int
    ids: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Slot:
    """A running episode.

    ``reply`` is being made; ``pending`` are the tokens that the decoder has to read before it can go on.
    """

    index: int
    part: Part
    order: int
    chat: Chat
    generator: np.random.Generator
    pending: list[int] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


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
        self._slots = len(decoder.lengths) - len(plays)
        self._parts: list[Part] = []
        self._running: list[_Slot] = []
        try:
            for play in plays:
                self._parts.append(Part(play, config, renderer))
        except BaseException:
            self._close()
            raise
        self._prefixes = {part: _Prefix(self._slots + index) for index, part in enumerate(self._parts)}
        # Episodes that may become long begin first, so that few slots are busy with the last ones alone.
        longest_first = sorted(self._parts, key=lambda part: -part.longest)
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
        return [part.results for part in self._parts]

    def _close(self) -> None:
        for part in self._parts:
            part.close()
        for slot in self._running:
            slot.chat.episode.environment.close()

    def _fill(self) -> None:
        """Start episodes in free slots."""
        while self._queue and len(self._running) < self._slots:
            part, order, request = self._queue.popleft()
            generator = numpy_generator("episode", request.seed)
            slot = _Slot(len(self._running), part, order, part.open(request), generator)
            if slot.chat.episode.stop is not None:
                self._finish(slot)
                continue
            self._running.append(slot)
            prefix, ids = self._prefixes[part], slot.chat.ids
            if not prefix.ids:
                self._read_prefix(part, prefix)
            # At least one token must remain to be read, for its logits.
            shared = min(common(prefix.ids, ids), len(ids) - 1)
            self._decoder.copy(prefix.history, slot.index, shared)
            slot.pending = ids[shared:]

    def _read_prefix(self, part: Part, prefix: _Prefix) -> None:
        """Read what the prompts of a play share because of their instruction, whatever the observation."""
        some, other = (self._renderer.opening(part.play.rules.instruction, observation) for observation in ("a", "0"))
        prefix.ids = some[: common(some, other)]
        for start in range(0, len(prefix.ids), PASS_TOKENS):
            self._decoder.decode([(prefix.history, prefix.ids[start : start + PASS_TOKENS])], [])

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
            if token in self._renderer.stop_tokens or len(slot.reply) >= slot.chat.reply_tokens:
                self._end_turn(slot)
        for part in self._parts:
            part.tell()

    def _draw(self, piece: int, slot: _Slot) -> Draw:
        temperature = slot.part.temperature
        if temperature is None:
            return Draw(piece, None, 1.0)
        return Draw(piece, float(slot.generator.random()), temperature)

    def _end_turn(self, slot: _Slot) -> None:
        start = len(slot.chat.ids)
        slot.chat.say(slot.reply, slot.logprobs)
        said = start + common(slot.reply, slot.chat.ids[start:])
        slot.reply, slot.logprobs = [], []
        if slot.chat.episode.stop is not None:
            self._finish(slot)
            self._release(slot)
            return
        read = self._decoder.lengths[slot.index]  # all that was said but its last token
        if said < read:  # chance took the action
            self._decoder.copy(slot.index, slot.index, said)
        slot.pending = slot.chat.ids[min(said, read) :]

    def _finish(self, slot: _Slot) -> None:
        slot.part.release(slot.chat)
        slot.part.finish(slot.order, slot.chat.trajectory(slot.part.temperature))

    def _release(self, slot: _Slot) -> None:
        """Free a slot; the last one moves into the gap, because a forward pass costs as much as the highest in use."""
        last = self._running.pop()
        if last is not slot:
            self._decoder.copy(last.index, slot.index, self._decoder.lengths[last.index])
            last.index = slot.index
            self._running[last.index] = last
