"""DeepSeek-R1, QwQ and others whose template opens a thought in the agent's name and leaves it open."""

from __future__ import annotations

import re

from fedse.agent.renderers.base import Tokenizer, attempt
from fedse.agent.renderers.qwen3 import Qwen3
from fedse.types import Message

_OPENED = re.compile(r"<((?:\w+:)?(?:think|thinking|thought|reason|reasoning|reflection))>\s*\Z")


class DeepSeekR1(Qwen3):
    """The thought is closed, empty: an expert's reply, or the agent's, would else be a part of it."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates that leave it open although they are asked not to think."""
        options = {"add_generation_prompt": True, "enable_thinking": False}
        return _OPENED.search(attempt(tokenizer, Message("user", "u"), **options)) is not None

    def prompt(self, text: str) -> str:
        """With the thought closed."""
        opened = _OPENED.search(super().prompt(text))
        return text if opened is None else f"{text.rstrip()}\n\n</{opened[1]}>\n\n"
