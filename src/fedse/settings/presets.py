"""The shipped presets: YAML files in the package, each with a one-line ``description``."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from fedse.names import unknown_name
from fedse.settings.yaml_text import parse_yaml


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def preset_description(name: str) -> str:
    """What a preset is for, in one line.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    return str(parse_yaml(preset_text(name))["description"])


def preset_text(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        UnknownNameError: if there is no such preset; offers the nearest names.
    """
    known = preset_names()
    if name not in known:
        raise unknown_name("preset", name, known)
    return (_folder() / f"{name}.yaml").read_text(encoding="utf-8")


def _folder() -> Traversable:
    return resources.files("fedse") / "presets"
