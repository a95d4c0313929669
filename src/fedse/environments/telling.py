"""What one of fedse's servers tells of its environment, in any protocol: written at one end, read at the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedse.environments.base import Environment, EnvironmentSpec, PromptStyle
from fedse.errors import EnvironmentFault


def told(environment: Environment) -> dict[str, Any]:
    """What a client of fedse's needs to know of an environment: its facts and both instructions.

    Options that are files are told by their names, as ``{"file": name}``: where they lie is nobody's business, and of
    no use elsewhere.
    """
    spec = asdict(environment.spec)
    spec["options"] = {option: told_option(value) for option, value in spec["options"].items()}
    return {**spec, "instruction": {style: environment.instruction(style) for style in ("concise", "full")}}


def told_option(value: Any) -> Any:
    """An option's value, as JSON has it; of a file its name."""
    if isinstance(value, str) and value and Path(value).exists():
        return {"file": Path(value).name}
    return json.loads(json.dumps(value))


def is_file(value: Any) -> bool:
    """Whether an option is told by a file's name."""
    return isinstance(value, dict) and value.keys() == {"file"}


class Told:
    """What one of fedse's servers tells of its environment.

    Attributes:
        spec: its facts.
        instructions: style → the rules.

    Raises:
        EnvironmentFault: if it makes no sense.
    """

    def __init__(self, answer: Any, address: str) -> None:
        try:
            self.spec = _SPEC.validate_python(answer)
            self.instructions = _INSTRUCTIONS.validate_python(answer.get("instruction"))
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise EnvironmentFault(
                f"what {address} tells of its environment makes no sense ({field}): {str(answer)[:200]}",
                "check the address",
            ) from None


_SPEC = TypeAdapter(EnvironmentSpec)
_INSTRUCTIONS: TypeAdapter[Mapping[PromptStyle, str]] = TypeAdapter(dict[PromptStyle, str])
