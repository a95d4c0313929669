"""Gemma, Mistral and others whose template has no place of its own for a system message."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.agent.renderers.base import OTHER, PROBE, Renderer, Tokenizer, attempt
from fedse.types import Message


class Gemma(Renderer):
    """The system message opens the first user message."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates that refuse a system message, leave it out, or move it when turns are added, as Mistral's do."""
        first = [Message("system", PROBE), Message("user", OTHER)]
        longer = [*first, Message("assistant", "a"), Message("user", "u")]
        chats = [attempt(tokenizer, *chat, add_generation_prompt=True) for chat in (first, longer)]
        before, still_before = (chat.partition(OTHER)[0] for chat in chats)
        return PROBE not in before or before != still_before

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """Without a system message."""
        system, user, *rest = super().conversation(messages)
        return [Message("user", f"{system.content}\n\n{user.content}"), *rest]
