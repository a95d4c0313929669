"""Applying ``--set key=value``, and the settings of a method, to configuration data."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from fedse.config import RunConfig
from fedse.settings.schema import item_section, section, show, unknown_key
from fedse.settings.yaml_text import parse_yaml


def apply_override(data: dict[str, Any], override: str) -> list[str]:
    """Set what one ``key=value`` text says, in place.

    Args:
        data: the configuration's data so far, not yet validated.
        override: a dotted path, ``=``, and a YAML value.

    Returns:
        The problems found: an unknown key, a client that is not there, a value that is not YAML, …
    """
    path, equals, text = override.partition("=")
    segments = path.strip().split(".")
    if not equals or not all(segments) or not path.isprintable():
        return [f"--set {override!r}: write it as key=value, for example training.learning_rate=5e-5"]
    try:
        value = parse_yaml(text)
    except ValueError as cause:
        return [f"{path.strip()}: found {show(text)}, which is not YAML: {cause}"]
    return _assign(data, RunConfig, segments, 0, value)


def apply_settings(data: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Set what a mapping says, in place and in its order.

    Args:
        data: the configuration's data so far, not yet validated.
        settings: dotted path → value, as ``clients.*.demonstrations: 0``; a section's keys may also stand below its
            name, as in ``method: {explore: false}``, and those that it does not name keep their values.

    Returns:
        The problems found, as for :func:`apply_override`.
    """
    leaves = flat_settings(settings).items()
    return [problem for path, value in leaves for problem in _assign(data, RunConfig, path.split("."), 0, value)]


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as dotted path → value, with nothing below the names of sections."""
    return {path: value for key, entry in settings.items() for path, value in _leaves(key, entry)}


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    field = RunConfig.model_fields.get(key)
    if field is not None and section(field.annotation) and isinstance(value, dict):
        yield from ((f"{key}.{name}", entry) for name, entry in value.items())
    else:
        yield key, value


def _assign(node: Any, schema: Any, segments: list[str], depth: int, value: Any) -> list[str]:
    """Set the value in ``node``, which lies at ``segments[:depth]`` and should be of the type ``schema``."""
    if isinstance(node, dict):
        return _assign_in_mapping(node, schema, segments, depth, value)
    if isinstance(node, list):
        return _assign_in_list(node, schema, segments, depth, value)
    found = "is not set" if node is None else f"is {show(node)}"
    return [f"{'.'.join(segments)}: {'.'.join(segments[:depth])} {found}, so it has no {segments[depth]!r}"]


def _assign_in_mapping(node: dict[str, Any], schema: Any, segments: list[str], depth: int, value: Any) -> list[str]:
    key = segments[depth]
    below: Any = Any  # the free-form options of an environment have no schema
    if model := section(schema):
        if key not in model.model_fields:
            return [unknown_key(segments[: depth + 1], value, model)]
        below = model.model_fields[key].annotation
    if depth + 1 == len(segments):
        node[key] = copy.deepcopy(value)  # a wildcard sets it in several places
        return []
    if node.get(key) is None and (below is Any or section(below) or get_origin(below) is dict):
        node[key] = {}
    return _assign(node.get(key), below, segments, depth + 1, value)


def _assign_in_list(node: list[Any], schema: Any, segments: list[str], depth: int, value: Any) -> list[str]:
    indexes = _indexes(node, segments[depth])
    if not indexes:
        names = [item["name"] for item in node if isinstance(item, dict) and isinstance(item.get("name"), str)]
        allowed = ", ".join([*names, "an index", "*"])
        return [f"{'.'.join(segments)}: no item is called {segments[depth]!r}; allowed: {allowed}"]
    if depth + 1 == len(segments):
        for index in indexes:
            node[index] = copy.deepcopy(value)
        return []
    below = item_section(schema)
    return [problem for index in indexes for problem in _assign(node[index], below, segments, depth + 1, value)]


def _indexes(items: list[Any], segment: str) -> list[int]:
    """Which items a segment means: all (``*``), those of that name, or the one of that index."""
    if segment == "*":
        return list(range(len(items)))
    named = [index for index, item in enumerate(items) if isinstance(item, dict) and item.get("name") == segment]
    return named or [index for index in range(len(items)) if str(index) == segment]
