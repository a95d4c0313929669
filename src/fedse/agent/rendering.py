"""From a chat to token ids and loss mask, in one place.

A chat is a stream of pieces: the opening (system message, first observation, the header of the agent's turn), the
agent's own tokens, the continuation (what the template puts between two agent turns around the next observation), the
agent's tokens again, and so on.  Sampling and rendering of expert turns build the stream from the same pieces, so a
demonstration and a rollout with the same text have the same ids and the same mask.

The pieces come from the tokenizer's own chat template, which must keep its prefix: adding a turn may not change what
was there before.  That is checked when the renderer is made.  Two liberties are taken.  Templates that can ask for a
thinking mode are told not to (the agent's thought is part of its reply); the empty thought with which Qwen3 then opens
a turn stays in the history, where the template itself would drop it.  And spaces that a template puts around a reply,
as Llama 2's does, are left out.  The date that some templates print is always the same, or prompts would change from
day to day.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import date
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from fedse.errors import ModelError
from fedse.types import Message, TokenRecord, Trajectory

_PROBE = "\u2042probe\u2042"
_OTHER = "\u2042other\u2042"
#: What templates that print the date of the day print here: Llama 3's own choice where it cannot know the day.
_TODAY = date(2024, 7, 26)
_ASKS_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


class ChatRenderer:
    """Renders chats by a tokenizer's template.

    Raises:
        ModelError: if the template does not keep its prefix, or ends a turn with no token of its own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._system_role = self._accepts_system()
        self._check_prefix()
        suffix = self._ids(self._after_reply("x"))
        if not suffix:
            raise ModelError("the chat template puts nothing after an assistant turn", "use an instruction-tuned model")
        #: The token that closes an agent turn; the agent's last sampled token unless its turn was cut.
        self.end_token: int = suffix[0]
        eos = tokenizer.eos_token_id
        #: Sampling any of these ends the agent's turn.
        self.stop_tokens: frozenset[int] = frozenset(
            {self.end_token} | ({eos} if isinstance(eos, int) else set(eos or ()))
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over the vocabulary and the chat template."""
        hasher = hashlib.sha256(str(self._tokenizer.chat_template).encode())
        for token, index in sorted(self._tokenizer.get_vocab().items()):
            hasher.update(f"{index}:{token}\n".encode())
        return hasher.hexdigest()[:16]

    def opening(self, instruction: str, observation: str) -> list[int]:
        """Token ids up to the agent's first turn."""
        return self._ids(self._text([Message("system", instruction), Message("user", observation)]))

    def continuation(self, observation: str) -> list[int]:
        """Token ids between the token that closed an agent turn and the agent's next turn."""
        return self._ids(self._after_reply(observation))[1:]

    def reply(self, response: str) -> list[int]:
        """Token ids of an agent turn, closed."""
        return [*self._ids(response), self.end_token]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, without tokens that end a turn."""
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

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _text(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        chat = [{"role": message.role, "content": message.content} for message in self._folded(messages)]
        options: dict[str, Any] = {}
        if "enable_thinking" in str(self._tokenizer.chat_template):
            options["enable_thinking"] = False
        if "strftime_now" in str(self._tokenizer.chat_template):
            options["chat_template"] = _dated(self._tokenizer.get_chat_template())
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate, **options)
        return str(text)

    def _folded(self, messages: Sequence[Message]) -> list[Message]:
        # Some templates (Gemma's) refuse a system message; it then opens the first user message.
        if self._system_role or messages[0].role != "system":
            return list(messages)
        first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
        return [first, *messages[2:]]

    def _after_reply(self, observation: str) -> str:
        chat = [
            Message("system", "s"),
            Message("user", "u"),
            Message("assistant", _PROBE),
            Message("user", observation),
        ]
        return self._text(chat).split(_PROBE, 1)[1].lstrip(" ")

    def _accepts_system(self) -> bool:
        chat = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "u"}]
        try:
            return _PROBE in str(self._tokenizer.apply_chat_template(chat, tokenize=False))
        except Exception:  # jinja templates raise whatever they like to refuse a role
            return False

    def _check_prefix(self) -> None:
        opening = [Message("system", "s"), Message("user", _OTHER)]
        longer = [*opening, Message("assistant", _PROBE), Message("user", "v")]
        bare, before, after = self._text(opening, generate=False), self._text(opening), self._text(longer)
        header, found, _ = after.removeprefix(bare).partition(_PROBE)
        kept = before.startswith(bare) and after.startswith(bare) and bool(found)
        if not kept or not before.removeprefix(bare).startswith(header.rstrip(" ")):
            raise ModelError(
                "the tokenizer's chat template rewrites earlier turns when a turn is added",
                "rollouts need a template that only appends; set such a template in tokenizer_config.json",
            )


def _dated(template: str) -> str:
    """The template with a constant date: transformers passes no function of ours to it, so the calls are replaced."""
    return _ASKS_DATE.sub(lambda call: repr(_TODAY.strftime(call[2])), template)
