"""Gemma and others whose template has no system role."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.agent.renderers.base import PROBE, Renderer, Tokenizer, attempt
from fedse.types import Message


class Gemma(Renderer):
    """The system message opens the first user message."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates that refuse a system message, or leave it out."""
        return PROBE not in attempt(tokenizer, Message("system", PROBE), Message("user", "u"))

    def conversation(self, messages: Sequence[Message]) -> list[Message]:
        """Without a system message."""
        system, user, *rest = super().conversation(messages)
        return [Message("user", f"{system.content}\n\n{user.content}"), *rest]
