"""The rollout engine: many multi-turn episodes side by side on one model.

History is never read twice: a slot's keys and values stay from turn to turn, and the prompt prefix that all episodes
share is computed once and copied.  The adapter is merged for the whole phase.  A slot is refilled as soon as its
episode ends, and slots that decode share a forward pass with slots that read an observation.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.environments.base import Environment, EnvironmentSpec
from fedse.errors import ConfigError, EnvironmentFault
from fedse.models.attention_switch import attention_implementation
from fedse.models.lora import LoraModel
from fedse.models.plain import check_head
from fedse.rollout.cache import ATTENTION_NAME
from fedse.rollout.decoder import SlotDecoder
from fedse.rollout.episode import Episode, EpisodeRequest, Limits
from fedse.rollout.prepack import prepacked
from fedse.rollout.sampling import draw
from fedse.seeding import numpy_generator
from fedse.types import Source, StopReason, TokenRecord, Trajectory

#: Prompt tokens read in one forward pass, at most; bounds memory when long prompts come all at once.
_PASS_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Where a rollout stands: episodes done of total, successes among them, tokens generated, seconds so far."""

    done: int
    total: int
    successes: int
    tokens: int
    seconds: float


@dataclass(eq=False)
class _Slot:
    """A running episode and its tokens."""

    index: int
    order: int
    episode: Episode
    environment: Environment
    generator: np.random.Generator
    ids: list[int]
    pending: list[int]
    spans: list[tuple[int, int]] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)


class RolloutEngine:
    """Plays episodes with the adapter that is loaded in ``lora`` at the time of the call.

    Raises:
        ConfigError: if ``max_context`` exceeds what the model was made for.
        ModelError: if the model changes its logits after the output embedding.
    """

    def __init__(self, lora: LoraModel, renderer: Renderer, config: RolloutConfig) -> None:
        window = getattr(lora.base.model.config, "max_position_embeddings", None)
        if window is not None and config.max_context > window:
            raise ConfigError(
                f"rollout.max_context is {config.max_context}, but {lora.base.name!r} has a context of {window} tokens",
                f"set rollout.max_context to at most {window}",
            )
        check_head(lora.base.model)
        self.lora = lora
        self.renderer = renderer
        self.config = config

    def limits(self, spec: EnvironmentSpec, max_turns: int | None = None) -> Limits:
        """The limits of an episode: the site's own turns and the run's settings where given, else the environment's."""
        return Limits(
            turns=max_turns or self.config.max_turns or spec.max_turns,
            repeats=self.config.max_repeats,
            response_tokens=self.config.max_response_tokens or spec.max_response_tokens,
            context=self.config.max_context,
        )

    def run(
        self,
        make_environment: Callable[[], Environment],
        requests: Sequence[EpisodeRequest],
        *,
        instruction: str,
        greedy: bool,
        max_turns: int | None = None,
        temperature: float | None = None,
        on_progress: Callable[[RolloutProgress], None] | None = None,
    ) -> list[Trajectory]:
        """Play one episode per request.

        Args:
            make_environment: makes an environment instance; one serves one slot.
            requests: what to play; the order is kept in the result.
            instruction: the system message.
            greedy: take the most likely token instead of sampling.
            max_turns: of an episode, instead of the configured number.
            temperature: of sampling, instead of the configured one.
            on_progress: told after every finished episode, and now and then in between.

        Returns:
            Trajectories with token records, in the order of the requests.  An environment's fault, or a prompt that
            leaves no room for a reply within ``max_context``, comes back as a trajectory with ``stop`` ``ERROR``.

        Raises:
            ModelError: if the model's attention is another than the engine computes.
        """
        if not requests:
            return []
        slots = min(self.config.slots, len(requests))
        model = self.lora.base.model
        with self.lora.merged(), prepacked(model, slots), attention_implementation(model, ATTENTION_NAME):
            draw_at = temperature or self.config.temperature
            return _Rollout(
                self, make_environment, requests, instruction, greedy, max_turns, draw_at, on_progress, slots
            ).play()


class _Rollout:
    """The state of one :meth:`RolloutEngine.run`."""

    def __init__(
        self,
        engine: RolloutEngine,
        make_environment: Callable[[], Environment],
        requests: Sequence[EpisodeRequest],
        instruction: str,
        greedy: bool,
        max_turns: int | None,
        temperature: float,
        on_progress: Callable[[RolloutProgress], None] | None,
        slots: int,
    ) -> None:
        self._renderer = engine.renderer
        self._temperature, self._min_p = temperature, engine.config.min_p
        self._make_environment = make_environment
        self._spare = [make_environment()]
        self._limits = engine.limits(self._spare[0].spec, max_turns)
        self._instruction = instruction
        self._greedy = greedy
        self._queue = deque(enumerate(requests))
        self._results: list[Trajectory | None] = [None] * len(requests)
        self._decoder = SlotDecoder(engine.lora.base.model, slots + 1, self._limits.context)
        self._prefix: list[int] = []
        self._prefix_slot = slots
        self._running: list[_Slot] = []
        self._slots = slots
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._told = 0.0
        self._tokens = 0

    def play(self) -> list[Trajectory]:
        try:
            while self._queue or self._running:
                self._fill()
                if self._running:
                    self._advance()
        finally:
            for environment in [*self._spare, *(slot.environment for slot in self._running)]:
                environment.close()
        return [result for result in self._results if result is not None]

    def _fill(self) -> None:
        """Start episodes in free slots.  The first ones together show the prefix that all prompts share."""
        fresh: list[_Slot] = []
        while self._queue and len(self._running) < self._slots:
            order, request = self._queue.popleft()
            environment = self._spare.pop() if self._spare else self._make_environment()
            episode = Episode(
                environment,
                request,
                instruction=self._instruction,
                turns=self._limits.turns,
                repeats=self._limits.repeats,
            )
            episode.start()
            ids = self._opening(episode)
            if episode.stop is not None:
                self._finish(order, episode, environment, None)
                continue
            generator = numpy_generator("episode", request.seed)
            fresh.append(_Slot(len(self._running), order, episode, environment, generator, ids, list(ids)))
            self._running.append(fresh[-1])
        if fresh and not self._prefix:
            self._read_prefix([slot.ids for slot in fresh])
        for slot in fresh:
            # At least one token must remain to be read, for its logits.
            shared = min(_common(self._prefix, slot.ids), len(slot.ids) - 1)
            self._decoder.copy(self._prefix_slot, slot.index, shared)
            slot.pending = slot.ids[shared:]

    def _opening(self, episode: Episode) -> list[int]:
        """The prompt of an episode; one without room for a reply ends it as an error."""
        if episode.stop is not None:
            return []
        ids = self._renderer.opening(self._instruction, episode.observation)
        if len(ids) + self._limits.response_tokens > self._limits.context:
            episode.fail(
                EnvironmentFault(
                    f"the prompt of task {episode.request.task} takes {len(ids)} tokens and a reply up to "
                    f"{self._limits.response_tokens}, more than rollout.max_context = {self._limits.context}",
                    "begin a new run with a larger rollout.max_context, or with agent.prompt=concise",
                )
            )
        return ids

    def _read_prefix(self, openings: Sequence[list[int]]) -> None:
        self._prefix = openings[0][: min(_common(openings[0], opening) for opening in openings)]
        for start in range(0, len(self._prefix), _PASS_TOKENS):
            self._decoder.forward([(self._prefix_slot, self._prefix[start : start + _PASS_TOKENS])])

    def _advance(self) -> None:
        """One forward pass, one token for every slot that has read all it was given."""
        room = _PASS_TOKENS
        pieces: list[tuple[int, list[int]]] = []
        ready: list[tuple[int, _Slot]] = []
        for slot in self._running:
            piece = slot.pending[:room]
            if not piece:
                continue
            room -= len(piece)
            slot.pending = slot.pending[len(piece) :]
            if not slot.pending:
                ready.append((len(pieces), slot))
            pieces.append((slot.index, piece))
        logits = self._decoder.forward(pieces)
        uniforms = None if self._greedy else np.array([slot.generator.random() for _, slot in ready])
        tokens = draw(logits[[row for row, _ in ready]], uniforms, self._temperature, self._min_p)
        self._tokens += len(tokens)
        for (_, slot), token in zip(ready, tokens, strict=True):
            self._take(slot, token)
        self._tell(force=False)

    def _take(self, slot: _Slot, token: int) -> None:
        slot.reply.append(token)
        slot.pending = [token]
        ended = token in self._renderer.stop_tokens
        if ended or len(slot.reply) >= self._limits.response_tokens:
            self._end_turn(slot, truncated=not ended)

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
            if len(slot.ids) + len(between) + self._limits.response_tokens <= self._limits.context:
                slot.ids += between
                slot.pending += between
                return
            slot.episode.cut(StopReason.CONTEXT_LIMIT)
        record = TokenRecord(tuple(slot.ids), tuple(slot.spans), self._renderer.fingerprint)
        self._finish(slot.order, slot.episode, slot.environment, record)
        self._release(slot)

    def _finish(self, order: int, episode: Episode, environment: Environment, tokens: TokenRecord | None) -> None:
        self._results[order] = episode.trajectory(source=Source.POLICY, tokens=tokens)
        if episode.stop is StopReason.ERROR:
            environment.close()  # what failed once is not trusted with another episode
        else:
            self._spare.append(environment)
        self._tell(force=True)

    def _release(self, slot: _Slot) -> None:
        """Free a slot; the last one moves into the gap, because attention runs over all slots up to the highest."""
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
