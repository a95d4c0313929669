"""Options of environments on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def parsed_options(texts: Sequence[str]) -> dict[str, Any]:
    """The options behind ``key=value`` texts; values are YAML, as in configuration files.

    Raises:
        ConfigError: if a text is not of that form.
    """
    from fedse.errors import ConfigError
    from fedse.settings.yaml_text import parse_yaml

    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise ConfigError(f"--option {text!r} is not of the form key=value", "write it as in --option size=200")
        try:
            options[key.strip()] = parse_yaml(value)
        except ValueError as cause:
            raise ConfigError(f"--option {text!r}: the value is not YAML: {cause}") from cause
    return options
