"""From a chat to token ids and loss mask, by the tokenizer's own chat template.

A chat is a stream of pieces.  The opening holds the system message, the first observation and the header of the agent's
turn.  The agent's own tokens follow.  A continuation is what the template puts between two agent turns, around the next
observation.  Sampling and the rendering of expert turns build the stream from the same pieces, so a demonstration and a
rollout with the same text have the same ids and the same mask.

A template must keep its prefix: adding a turn may not change what was there before.  And it must end a turn with a
token that no text spells.  Both are checked when a renderer is made.

Text is text: an observation, an instruction or a reply that spells such a token is encoded as the characters that it
has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from fedse.errors import ModelError, boundary
from fedse.types import Message, TokenRecord, Trajectory

#: Two lines, as a reply has.
PROBE = "Thought: \u2042probe\u2042\nAction: \u2042go\u2042"
OTHER = "\u2042other\u2042"
#: No token lies across it.  It is one of Unicode's noncharacters, which no text has.
_BREAK = "\ufdd0"
_MEND = "use an instruction-tuned model, or set another chat_template in its tokenizer_config.json"


class Tokenizer(Protocol):
    """What a renderer needs of a tokenizer; those of transformers have it."""

    chat_template: Any
    eos_token_id: Any

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Id → token with ``content`` and ``special``, of those that are found in a text before it is split."""

    def get_vocab(self) -> dict[str, int]:
        """Token → id."""

    def get_chat_template(self) -> str:
        """The template that chats are rendered with."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """The ids of a text."""

    def decode(
        self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str | list[str]:
        """The text of ids."""

    def apply_chat_template(self, conversation: list[dict[str, str]], *, tokenize: bool, **options: Any) -> Any:
        """The text of a chat."""


class Renderer:
    """Renders chats by a tokenizer's template, whatever the model.

    A model family that needs more is a subclass: see :mod:`fedse.agent.renderers`.

    Raises:
        ModelError: if the template is damaged, does not keep its prefix, or ends a turn with no token of its own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        control = _control_tokens(tokenizer)
        spelled = "|".join(re.escape(text) for text in control.values() if len(text) > 1)
        self._spells_control = re.compile(f"(?={spelled or '(?!)'}).", re.DOTALL)
        self._check_prefix()
        suffix = self._ids(self._after_reply("x"))
        if not suffix:
            raise ModelError("the chat template puts nothing after an assistant turn", _MEND)
        #: The token that closes an agent turn; the agent's last sampled token unless its turn was cut.
        self.end_token: int = suffix[0]
        eos = tokenizer.eos_token_id
        #: Sampling any of these ends the agent's turn.
        self.stop_tokens: frozenset[int] = frozenset({self.end_token, *([eos] if isinstance(eos, int) else eos or ())})
        if self.end_token not in control:
            end = tokenizer.decode([self.end_token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            raise ModelError(
                f"the chat template ends a turn with {end!r}, which is an ordinary token: a reply can hold it before "
                "its action",
                f"{_MEND}; a GGUF file may need to be converted anew with today's llama.cpp",
            )

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:  # noqa: ARG003
        """Whether the tokenizer's template needs what this class does."""
        return True

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the vocabulary and the chat template."""
        hasher = hashlib.sha256(str(self._tokenizer.chat_template).encode())
        for token, index in sorted(self._tokenizer.get_vocab().items()):
            hasher.update(f"{index}:{token}\n".encode())
        return hasher.hexdigest()[:16]

    def opening(self, instruction: str, observation: str) -> list[int]:
        """Token ids up to the agent's first turn."""
        chat = [Message("system", self._as_text(instruction)), Message("user", self._as_text(observation))]
        return self._ids(self._text(chat))

    def continuation(self, observation: str) -> list[int]:
        """Token ids between the token that closed an agent turn and the agent's next turn."""
        return self._ids(self._after_reply(self._as_text(observation)))[1:]

    def reply(self, response: str) -> list[int]:
        """Token ids of an agent turn, closed."""
        return [*self._ids(self._as_text(response)), self.end_token]

    def decode(self, ids: Sequence[int]) -> str:
        """The reply that sampled ids spell, as :func:`fedse.agent.parse_response` reads it: without stop tokens."""
        kept = list(ids)
        while kept and kept[-1] in self.stop_tokens:
            kept.pop()
        text = self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def render(self, trajectory: Trajectory) -> TokenRecord:
        """Token record of a trajectory that was not sampled: an expert's, a person's or an imported one.

        Raises:
            ValueError: if it has no turns.
        """
        if not trajectory.turns:
            raise ValueError(f"trajectory of {trajectory.task} has no turns to render")
        ids = self.opening(trajectory.instruction, trajectory.turns[0].observation)
        spans: list[tuple[int, int]] = []
        for index, turn in enumerate(trajectory.turns):
            if index:
                ids += self.continuation(turn.observation)
            reply = self.reply(turn.response)
            spans.append((len(ids), len(ids) + len(reply)))
            ids += reply
        return TokenRecord(tuple(ids), tuple(spans), self.fingerprint)

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the template takes them."""
        return list(messages)

    def template_options(self) -> dict[str, Any]:
        """Keywords with which the template is filled in."""
        return {}

    def prompt(self, text: str) -> str:
        """A chat with the header of the agent's turn, as the agent is to go on from it."""
        return text

    def around_reply(self, text: str) -> tuple[str, str]:
        """What stands before and after the reply :data:`PROBE` in a chat that the template made."""
        before, _, after = text.partition(PROBE)
        return before, after

    def _as_text(self, text: str) -> str:
        """A text, broken after the first character of whatever spells a token that means something in a chat."""
        return self._spells_control.sub(lambda first: first[0] + _BREAK, text.replace(_BREAK, "\ufffd"))

    def _ids(self, text: str) -> list[int]:
        first, *others = text.split(_BREAK)
        ids = self._encoded(first)
        before = self._encoded("\n") if others else []
        for other in others:
            # Some tokenizers put a space before what they take for the beginning of a text.
            after = self._encoded("\n" + other)
            ids += after[len(before) :] if after[: len(before)] == before else self._encoded(other)
        return ids

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _text(self, messages: Sequence[Message]) -> str:
        options = {"add_generation_prompt": True, **self.template_options()}
        return self.prompt(fill_in(self._tokenizer, self.conversation(messages), **options))

    def _after_reply(self, observation: str) -> str:
        before = [Message("system", "s"), Message("user", "u"), Message("assistant", PROBE)]
        return self.around_reply(self._text([*before, Message("user", observation)]))[1]

    def _check_prefix(self) -> None:
        # What the template makes without the header of a reply does not matter: Phi's then closes the whole chat.
        opening = [Message("system", "s"), Message("user", OTHER)]
        before = self._text(opening)
        after = self._text([*opening, Message("assistant", PROBE), Message("user", "v")])
        kept, _ = self.around_reply(after)
        if PROBE not in after or OTHER not in kept or not before.startswith(kept):
            raise ModelError(
                "the tokenizer's chat template rewrites earlier turns when a turn is added",
                "rollouts need a template that only appends; set such a template in tokenizer_config.json",
            )


def fill_in(tokenizer: Tokenizer, messages: Sequence[Message], **options: Any) -> str:
    """The text that a tokenizer's template makes of a chat; a template that cannot is a ``ModelError``."""
    chat = [{"role": message.role, "content": message.content} for message in messages]
    with boundary(ModelError, "the tokenizer's chat template cannot be filled in", _MEND):
        return str(tokenizer.apply_chat_template(chat, tokenize=False, **options))


def attempt(tokenizer: Tokenizer, *messages: Message, **options: Any) -> str:
    """The same, to see what a template does; empty if it refuses the chat."""
    try:
        return fill_in(tokenizer, messages, **options)
    except ModelError:  # jinja templates raise whatever they like
        return ""


def template_of(tokenizer: Tokenizer) -> str:
    """The template that chats are rendered with, of several the default one; without that a ``ModelError``."""
    with boundary(ModelError, "the tokenizer has no chat template to take", _MEND):
        return str(tokenizer.get_chat_template())


def _control_tokens(tokenizer: Tokenizer) -> dict[int, str]:
    """Tokens that mean something in a chat: the special ones, and what else the template writes whole."""
    template = template_of(tokenizer)
    return {
        index: token.content
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and not token.content.isspace())
    }
