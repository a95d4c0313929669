"""Renderers by model family: special tokens, thinking, the system role, and what of a reply is read.

What is special about a family is one file, with a subclass of :class:`Renderer`.  A family is recognised by what the
chat template does, not by the model's name, so every model of that kind is served.  A template can need several:
SmolLM3's has a switch for thinking, as Qwen3's, and prints the date, as Llama 3's.
"""

from __future__ import annotations

from fedse.agent.renderers.base import Renderer, Tokenizer
from fedse.agent.renderers.deepseek_r1 import DeepSeekR1
from fedse.agent.renderers.gemma import Gemma
from fedse.agent.renderers.llama2 import Llama2
from fedse.agent.renderers.llama3 import Llama3
from fedse.agent.renderers.qwen3 import Qwen3

__all__ = ["FAMILIES", "Renderer", "renderer_for"]

#: Renderers refine the ones after them; the last one serves every template.
FAMILIES: tuple[type[Renderer], ...] = (DeepSeekR1, Qwen3, Gemma, Llama3, Llama2, Renderer)


def renderer_for(tokenizer: Tokenizer) -> Renderer:
    """The renderer that a tokenizer's chat template needs; errors as of :class:`Renderer`."""
    families = tuple(family for family in FAMILIES if family.recognises(tokenizer))
    renderer: Renderer = type("".join(family.__name__ for family in families), families, {})(tokenizer)
    return renderer
