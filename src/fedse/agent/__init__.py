"""The agent: how it is prompted, how its text is read, how a chat becomes tokens."""

from fedse.agent.parsing import ParsedResponse, format_response, parse_response
from fedse.agent.prompts import system_prompt
from fedse.agent.renderers import Renderer, renderer_for

__all__ = ["ParsedResponse", "Renderer", "format_response", "parse_response", "renderer_for", "system_prompt"]
