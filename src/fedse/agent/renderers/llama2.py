"""Llama 2, Vicuna and others whose template puts spaces around a reply."""

from __future__ import annotations

from fedse.agent.renderers.base import PROBE, Renderer, Tokenizer, attempt
from fedse.types import Message


class Llama2(Renderer):
    """The spaces are left out, because a model that is asked to go on does not begin with one."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates with a space next to a reply in the middle of a chat."""
        chat = attempt(tokenizer, Message("user", "u"), Message("assistant", PROBE), Message("user", "v"))
        return f" {PROBE}" in chat or f"{PROBE} " in chat

    def around_reply(self, text: str) -> tuple[str, str]:
        """Without the spaces."""
        before, after = super().around_reply(text)
        return before.rstrip(" "), after.lstrip(" ")
