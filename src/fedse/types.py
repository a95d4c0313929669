"""The data that flows through fedse, from an episode to the record of a round.  No torch, no I/O.

    Task → Turn → Trajectory → RoundRecord

All types are immutable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedse.errors import EnvironmentFault
from fedse.texts import well_formed

Role = Literal["system", "user", "assistant"]
FloatArray = npt.NDArray[np.float32]
#: How the tensors of an adapter cross between server and sites; see :mod:`fedse.adapters.deltas`.
CodecName = Literal["fp32", "bf16", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Task:
    """One problem of an environment; ``environment`` and ``id`` name it for good, whatever split it came from.

    Raises:
        EnvironmentFault: if the id is no text that can be written.
    """

    environment: str
    id: str

    def __post_init__(self) -> None:
        if well_formed(self.id) != self.id:  # replaced, it would be the id of no task
            what = f"the id {self.id!r} of a task of {self.environment!r} holds half of a character (a lone surrogate)"
            raise EnvironmentFault(what, "mend the environment's list of tasks")

    def __str__(self) -> str:
        return f"{self.environment}:{self.id}"


class StopReason(StrEnum):
    """Why an episode ended."""

    DONE = "done"  # the environment said so, in success or in failure
    TURN_LIMIT = "turn_limit"
    CONTEXT_LIMIT = "context_limit"  # the next observation and reply would not fit into the context window
    REPETITION = "repetition"  # the same reply to the same observation, too often
    ERROR = "error"  # an infrastructure fault; the episode has no outcome


class Source(StrEnum):
    """Who acted in a trajectory."""

    POLICY = "policy"
    EXPERT = "expert"
    HUMAN = "human"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of the agent: what it saw, what it wrote, what that did.

    Attributes:
        observation: the text the agent saw before this turn.
        response: the agent's full text, thought and action, without end-of-turn tokens.
        action: the action parsed from ``response`` and given to the environment.
        reward: the environment's reward for the action.
        truncated: the response hit the token limit of a turn before the model ended it.
        by_chance: the action is not the model's, but chosen by chance from what the environment offered an agent that
            was stuck; the thought is its own.
    """

    observation: str
    response: str
    action: str
    reward: float
    truncated: bool = False
    by_chance: bool = False


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """The exact token ids of a trajectory and where the agent's own tokens lie.

    The loss mask is derived from ``spans`` and from nothing else, so that ids and mask cannot drift apart.

    Attributes:
        ids: all tokens of the rendered chat, shape (T,).
        spans: half-open index ranges, one per agent turn, each covering thought, action and the end-of-turn token.
        tokenizer: fingerprint of the tokenizer and chat template that made them.
        logprobs: log-probability of each of the agent's tokens under softmax(logits / temperature) when it was drawn,
            in nats, in their order; tokens that were excluded from drawing keep their share.  Of an action by chance
            the first token has the probability of the whole.  ``None`` where nothing was drawn, as in greedy
            play and demonstrations.
        temperature: of ``logprobs``.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    tokenizer: str
    logprobs: tuple[float, ...] | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.logprobs is not None and len(self.logprobs) != self.agent_tokens:
            raise ValueError(f"{len(self.logprobs)} log-probabilities for {self.agent_tokens} tokens of the agent")

    @property
    def agent_tokens(self) -> int:
        """How many tokens are the agent's own."""
        return sum(end - start for start, end in self.spans)

    def mask(self) -> npt.NDArray[np.bool_]:
        """The loss mask, shape (T,): true on the agent's tokens only."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        for start, end in self.spans:
            mask[start:end] = True
        return mask


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished episode.

    Attributes:
        task: the task that was attempted.
        source: who acted.
        instruction: the system message that opened the chat (the environment's rules and the reply format).
        turns: the agent's turns in order.
        final_observation: what the environment said after the last action.
        success: the environment's verdict by its spec; ``None`` exactly when ``stop`` is ``ERROR``.
        reward: the reward of the last step.
        stop: why the episode ended.
        seed: the seed of the episode's own random stream.
        round: federation round in which it was made; 0 for demonstrations.
        client: the site that made it; empty outside a federation.
        error: the fault's message when ``stop`` is ``ERROR``.
        tokens: token record, once sampled or rendered.
    """

    task: Task
    source: Source
    instruction: str
    turns: tuple[Turn, ...]
    final_observation: str
    success: bool | None
    reward: float
    stop: StopReason
    seed: int = 0
    round: int = 0
    client: str = ""
    error: str = ""
    tokens: TokenRecord | None = None

    def __post_init__(self) -> None:
        if (self.success is None) != (self.stop is StopReason.ERROR):
            raise ValueError(f"success must be None exactly when stop is ERROR, got {self.success} with {self.stop}")

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions taken, in order."""
        return tuple(turn.action for turn in self.turns)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat that an agent sees: system, then user and assistant in turn.  The final observation is not part."""
        chat = [Message("system", self.instruction)]
        for turn in self.turns:
            chat += [Message("user", turn.observation), Message("assistant", turn.response)]
        return tuple(chat)

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` turns back into an equal trajectory."""
        data = asdict(self)
        if self.tokens is not None and self.tokens.logprobs is None:
            del data["tokens"]["logprobs"], data["tokens"]["temperature"]
        for turn in data["turns"]:
            if not turn["by_chance"]:
                del turn["by_chance"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trajectory:
        """The inverse of :meth:`to_json`, also after a pass through JSON text.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or of the wrong kind.
        """
        tokens = data["tokens"]
        record = None
        if tokens is not None:
            record = TokenRecord(
                ids=tuple(tokens["ids"]),
                spans=tuple((int(start), int(end)) for start, end in tokens["spans"]),
                tokenizer=tokens["tokenizer"],
                logprobs=tuple(tokens["logprobs"]) if "logprobs" in tokens else None,
                temperature=tokens.get("temperature", 1.0),
            )
        known = dict(data)
        known |= {
            "task": Task(**data["task"]),
            "source": Source(data["source"]),
            "turns": tuple(Turn(**turn) for turn in data["turns"]),
            "stop": StopReason(data["stop"]),
            "tokens": record,
        }
        return cls(**known)

    def with_origin(self, *, client: str, round: int) -> Trajectory:
        """A copy that names the site and the round it was made in."""
        return replace(self, client=client, round=round)


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Successes out of episodes that had an outcome, with a 95 % Wilson interval.

    Attributes:
        successes: episodes that the environment's spec calls a success.
        episodes: episodes with an outcome.
        errors: episodes lost to infrastructure faults; in no rate.
        low, high: bounds of the interval.
    """

    successes: int
    episodes: int
    errors: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Success rate in [0, 1]; NaN without episodes."""
        return self.successes / self.episodes if self.episodes else float("nan")


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What one federation round did, as the sites told it; written to ``metrics.jsonl``.

    Attributes:
        round: 1-based; 0 is the evaluation of the initial adapter.
        clients: site, or environment at a site → phase → metrics (episodes, kept, loss, steps, seconds, tokens, …); of
            a site also ``outcome``: what became of its update.
        evaluation: environment → success rate on held-out tasks, of the global adapter or, where every site has its
            own, of the adapter of the site that has the environment; empty when not evaluated.
        adapter: digest of the global adapter after the round; empty if there is none, because every site has its own.
        seconds: phase → wall-clock seconds.
        adapters: site → digest of its own adapter after the round; empty if there is a global one.
        transfer: site → environment → success rate of the site's adapter there, its own environment included; or
            ``_global`` → environment → that of the global adapter, where sites have private components in it.  Only in
            the last round, and if there are several sites.
        scalars: site → what the strategy asked for beside the adapter; empty if nothing.
    """

    round: int
    clients: Mapping[str, Mapping[str, Any]]
    evaluation: Mapping[str, SuccessRate]
    adapter: str
    seconds: Mapping[str, float]
    adapters: Mapping[str, str] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, SuccessRate]] = field(default_factory=dict)
    scalars: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def as_messages(pairs: Sequence[tuple[Role, str]]) -> tuple[Message, ...]:
    """Messages from (role, content) pairs."""
    return tuple(Message(role, content) for role, content in pairs)
