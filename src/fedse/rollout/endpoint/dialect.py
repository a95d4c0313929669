"""What differs between inference servers: paths, and the fields of requests and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedse.rollout.endpoint.connection import Answer


@dataclass(frozen=True, slots=True)
class Wish:
    """A reply that is asked for.

    Attributes:
        prompt: token ids of the chat so far.
        most: tokens of the reply.
        stops: tokens that end it.
        temperature: divides the logits; 0 takes the most likely token.
        min_p: tokens less likely than this share of the most likely one are not drawn.
        seed: of the draws.
    """

    prompt: Sequence[int]
    most: int
    stops: Sequence[int]
    temperature: float
    min_p: float
    seed: int


@dataclass(frozen=True, slots=True)
class Said:
    """A reply: its tokens, the one that ended it included; their log-probabilities; and why it ended.

    ``reason`` is ``stop`` at a stop token, ``length`` at the limit; any other says that the server did not finish it.
    """

    tokens: list[int]
    logprobs: list[float]
    reason: str


class Dialect(Protocol):
    """How a kind of server is spoken to.  All list their models at ``GET /v1/models``.

    Attributes:
        completions: path of requests for a reply.
        load, unload: paths to load an adapter, and to drop it.
        start: how a user starts such a server so that it loads adapters while it runs.
    """

    completions: str
    load: str
    unload: str
    start: str

    def request(self, wish: Wish, base: str, adapter: str | None) -> dict[str, Any]:
        """The body that asks for a reply of a base model, with an adapter if one is named."""

    def said(self, body: Any) -> Said:
        """The reply in an answer's body.

        Raises:
            KeyError, IndexError, TypeError, ValueError: if the body has another form.
        """

    def lacks_adapter(self, answer: Answer) -> bool:
        """Whether the answer to a request with an adapter says that there is no such adapter."""

    def logprob_temperature(self, temperature: float) -> float:
        """The temperature of the log-probabilities that tokens drawn at a temperature come with."""
