"""Llama 3 and others whose template prints the date of the day."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from fedse.agent.renderers.base import Renderer, Tokenizer, template_of

#: What is printed instead: Llama 3's own choice where it cannot know the day.
_TODAY = date(2024, 7, 26)
_ASKS_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


class Llama3(Renderer):
    """The date is always the same, or prompts would change from day to day."""

    @classmethod
    def recognises(cls, tokenizer: Tokenizer) -> bool:
        """Templates that ask for the time."""
        return "strftime_now" in template_of(tokenizer)

    def template_options(self) -> dict[str, Any]:
        """The template with a constant date: transformers takes no clock of ours, so the calls are replaced."""
        template = template_of(self._tokenizer)
        dated = _ASKS_DATE.sub(lambda call: repr(_TODAY.strftime(call[2])), template)
        return super().template_options() | {"chat_template": dated}
