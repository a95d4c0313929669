"""The player that has an inference server decode: every open episode has a thread that waits for its replies."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from fedse.adapters.state import AdapterState
from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.errors import EndpointError
from fedse.rollout.endpoint import DIALECTS
from fedse.rollout.endpoint.connection import Connection, Stopped, Unavailable
from fedse.rollout.endpoint.dialect import Said, Wish
from fedse.rollout.endpoint.seat import Seat
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.part import Part
from fedse.rollout.player import Play
from fedse.seeding import numpy_generator
from fedse.types import Trajectory

_TICK_SECONDS = 0.25
#: For threads that wait for an answer when the rollout is over; they end by themselves later.
_JOIN_SECONDS = 1.0
_SEEDS = 2**31


class EndpointPlayer:
    """A :class:`~fedse.rollout.player.Player` that has an inference server make the agent's replies.

    Environments run here, tokens are drawn there.  A fault of the server is no outcome: the request is made again,
    with the same seed, until the server answers or was away for too long.

    Args:
        url: of the endpoint.
        config: how it is used; slots, limits and sampling.
        renderer: of the model's tokenizer.
        names: of the base model, any of which the server may call it by.
        fits: raises an ``AdapterError`` if an adapter is none of the base model.
        folder: for adapters, which the server reads them from, unless the configuration names one.
        key: sent with each request.
    """

    def __init__(
        self,
        url: str,
        config: RolloutConfig,
        renderer: Renderer,
        *,
        names: Collection[str],
        fits: Callable[[AdapterState], None],
        folder: Path | None = None,
        key: str | None = None,
    ) -> None:
        endpoint = config.endpoint
        self._config, self._renderer, self._fits = config, renderer, fits
        self._dialect = DIALECTS[endpoint.api]
        self._connection = Connection(
            url, key=key, timeout=endpoint.timeout, patience=endpoint.patience, most=config.slots
        )
        names = (endpoint.model,) if endpoint.model else names
        folder = Path(endpoint.adapters).expanduser() if endpoint.adapters else folder
        self._counting = threading.Lock()
        self._seat = Seat(self._connection, self._dialect, names, config.max_context, folder)

    def play(self, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        """See :meth:`fedse.rollout.player.Player.play`."""
        if adapter is not None:
            self._fits(adapter)
        parts: list[Part] = []
        try:
            for play in plays:
                parts.append(Part(play, self._config, self._renderer))  # what is open is closed below
            self._play(adapter, parts)
        finally:
            for part in parts:
                part.close()
        return [part.results for part in parts]

    def _play(self, adapter: AdapterState | None, parts: Sequence[Part]) -> None:
        # Episodes that may become long begin first, so that few are left to the end.
        longest_first = sorted(parts, key=lambda part: -part.longest)
        asked = [(part, order, request) for part in longest_first for order, request in enumerate(part.play.requests)]
        waiting: SimpleQueue[tuple[Part, int, EpisodeRequest]] = SimpleQueue()
        for item in asked:
            waiting.put(item)
        left = len(asked)
        done: SimpleQueue[tuple[Part, int, Trajectory] | BaseException] = SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            try:
                while not stopped.is_set():
                    part, order, request = waiting.get_nowait()
                    done.put((part, order, self._episode(adapter, part, request, stopped)))
            except (Empty, Stopped):  # nothing is left to play
                pass
            except BaseException as error:
                done.put(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self._config.slots, left))]
        for thread in threads:
            thread.start()
        try:
            while left:
                try:
                    news = done.get(timeout=_TICK_SECONDS)
                except Empty:
                    for part in parts:
                        part.tell(self._connection.trouble)
                    continue
                if isinstance(news, BaseException):
                    raise news
                part, order, trajectory = news
                part.finish(order, trajectory)
                left -= 1
        finally:
            stopped.set()
            until = time.monotonic() + _JOIN_SECONDS
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    def _episode(
        self, adapter: AdapterState | None, part: Part, request: EpisodeRequest, stopped: threading.Event
    ) -> Trajectory:
        chat = part.open(request)
        generator = numpy_generator("episode", request.seed)
        temperature = part.temperature
        try:
            while chat.episode.stop is None:
                wish = Wish(
                    chat.ids,
                    most=chat.reply_tokens,
                    stops=sorted(self._renderer.stop_tokens),
                    temperature=temperature or 0.0,
                    min_p=0.0 if temperature is None else self._config.min_p,
                    seed=int(generator.integers(_SEEDS)),
                )
                said = self._connection.patiently(lambda: self._reply(adapter, wish), stopped)  # noqa: B023
                with self._counting:
                    part.tokens += len(said.tokens)
                chat.say(said.tokens, said.logprobs)
        except BaseException:
            chat.episode.environment.close()
            raise
        part.release(chat)
        return chat.trajectory(None if temperature is None else self._dialect.logprob_temperature(temperature))

    def _reply(self, adapter: AdapterState | None, wish: Wish) -> Said:
        """Ask once.

        Raises:
            Unavailable: if it may work out later.
            EndpointError: if it will not.
        """
        base, name = self._seat.take(adapter)
        answer = self._connection.ask("POST", self._dialect.completions, self._dialect.request(wish, base, name))
        if name and self._dialect.lacks_adapter(answer):
            self._seat.lost(name)
            raise Unavailable("it no longer has the adapter, which is loaded again")
        self._connection.settle("to reply", answer)
        try:
            said = self._dialect.said(answer.body)
        except (KeyError, IndexError, TypeError, ValueError) as cause:
            raise EndpointError(
                f"the endpoint {self._connection.address} sends no token ids with their log-probabilities",
                f"{self._dialect.start}; rollout.endpoint.api says which kind of server it is",
            ) from cause
        if said.reason not in ("stop", "length"):
            raise Unavailable(f"it broke a reply off ({said.reason})")
        count = len(said.tokens)
        whole = 0 < count <= wish.most and (said.reason == "stop" or count == wish.most)
        if not whole or len(said.logprobs) != count or not all(map(math.isfinite, said.logprobs)):
            raise EndpointError(
                f"the endpoint {self._connection.address} was asked for a reply of {wish.most} tokens at most, and "
                f"sent {count} with {len(said.logprobs)} log-probabilities, ended by {said.reason}",
                "see whether it limits replies, or replaces what requests ask for",
            )
        return said
