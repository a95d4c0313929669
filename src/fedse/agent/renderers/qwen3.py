"""Qwen3, SmolLM3 and others whose template can ask the model to think first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fedse.agent.renderers.base import Renderer, Tokenizer, template_of

_THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


class Qwen3(Renderer):
    """Thinking is off: the agent's thought is part of its reply.

    Without thinking such a template opens a turn with an empty thought.  The empty thought stays in the history, where
    the template itself would drop it: a prefix is kept.
    """

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates with the switch."""
        return "enable_thinking" in template_of(tokenizer)

    def template_options(self) -> dict[str, Any]:
        """Thinking is switched off."""
        return super().template_options() | {"enable_thinking": False}

    def decode(self, ids: Sequence[int]) -> str:
        """Without what the model thought all the same."""
        return _THINKING.sub("", super().decode(ids))
