"""YAML for people to edit: what a key is for stands above it, taken from the models so that it cannot fall behind."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from fedse.settings.schema import item_section, section
from fedse.settings.yaml_text import dump_yaml

_WIDTH = 100


def commented_yaml(model: type[BaseModel], data: Mapping[str, Any]) -> str:
    """Data of a model as YAML, with the description of each key above it, once for the items of a list.

    Args:
        model: what the data is of.
        data: plain data; keys that are left out have their defaults.
    """
    return "\n".join(_section(model, data, top=True)) + "\n"


def _section(
    model: type[BaseModel], data: Mapping[str, Any], *, told: set[str] | None = None, top: bool = False
) -> Iterator[str]:
    """The lines of a section.  ``told`` gathers the keys that need no comment again."""
    for key, value in data.items():
        field = model.model_fields[key]
        inner = section(field.annotation)
        if told is None or key not in told:
            text = field.description or ((inner and inner.__doc__) or "").partition("\n")[0]
            if top and key != next(iter(data)):
                yield ""
            yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        if told is not None:
            told.add(key)
        if inner and value:
            yield f"{key}:"
            yield from (f"  {line}" for line in _section(inner, value))
        elif (item := item_section(field.annotation)) and value:
            yield f"{key}:"
            yield from _items(item, value)
        else:
            yield from dump_yaml({key: value}).splitlines()


def _items(model: type[BaseModel], items: list[Mapping[str, Any]]) -> Iterator[str]:
    told: set[str] = set()
    for item in items:
        mark = "- "
        for line in _section(model, item, told=told):
            if mark == "- " and line.startswith("#"):
                yield f"  {line}"
                continue
            yield f"  {mark}{line}"
            mark = "  "
