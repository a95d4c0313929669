"""The agent: how it is prompted, how its text is read, how a chat becomes tokens."""

from fedse.agent.parsing import ParsedResponse, format_response, parse_response
from fedse.agent.prompts import system_prompt

__all__ = ["ParsedResponse", "format_response", "parse_response", "system_prompt"]
