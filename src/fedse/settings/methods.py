"""The shipped methods: YAML files in the package, each with a label, a description and the settings that make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from fedse.names import unknown_name
from fedse.settings.yaml_text import parse_yaml


@dataclass(frozen=True)
class Method:
    """A method as data: what it sets in a configuration.

    Attributes:
        name: letters, digits, '-', '_' and '.'; names folders and is typed on the command line.
        label: what tables and figures call it.
        description: one line.
        set: settings, see :func:`~fedse.settings.overrides.apply_settings`.
    """

    name: str
    label: str
    description: str
    set: Mapping[str, Any]


def method_names() -> list[str]:
    """Names of the shipped methods, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def read_method(name: str) -> Method:
    """A shipped method.

    Raises:
        UnknownNameError: if there is no such method; offers the nearest names.
    """
    known = method_names()
    if name not in known:
        raise unknown_name("method", name, known)
    return Method(name=name, **parse_yaml((_folder() / f"{name}.yaml").read_text(encoding="utf-8")))


def _folder() -> Traversable:
    return resources.files("fedse") / "methods"
