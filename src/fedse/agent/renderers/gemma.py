"""Gemma, Mistral and others whose template has no place of its own for a system message."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.agent.renderers.base import OTHER, PROBE, Renderer, Tokenizer, attempt
from fedse.types import Message


class Gemma(Renderer):
    """The system message opens the first user message."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates that refuse a system message, leave it out, or move it to the last user message as Mistral's do."""
        first = [Message("system", PROBE), Message("user", OTHER)]
        chat = attempt(tokenizer, *first, Message("assistant", "a"), Message("user", "u"))
        return PROBE not in chat.partition(OTHER)[0]

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """Without a system message."""
        system, user, *rest = super().conversation(messages)
        return [Message("user", f"{system.content}\n\n{user.content}"), *rest]
