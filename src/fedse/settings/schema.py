"""Walking the configuration models: which keys there are, what they may hold, what to say of one that is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedse.addresses import without_credentials
from fedse.config import RunConfig
from fedse.names import did_you_mean

_LONGEST_VALUE = 80
#: Keys of earlier versions → what says the same now.
_RENAMED = {
    "method.aggregator": "method.strategy",
    "method.sharing": "method.strategy (isolated: nothing is shared), or clients.*.site (all experience at one site)",
    "method.server_lr": "method.options.server_lr",
    "method.restart": "method.options.restart",
}
_KINDS = {int: "integer", float: "number", str: "text", Path: "path", bool: "true or false", NoneType: "null"}


def section(annotation: Any) -> type[BaseModel] | None:
    """The model that a type stands for, if it is one."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def item_section(annotation: Any) -> type[BaseModel] | None:
    """The model of the items, if a type is a list of sections, as ``clients`` is."""
    return section(get_args(annotation)[0]) if get_origin(annotation) is tuple else None


def sections(root: type[BaseModel] = RunConfig, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Dotted path and model of every section, the root (``""``) first; items of a list are under ``path.*``."""
    yield path, root
    for name, field in root.model_fields.items():
        below = f"{path}.{name}".lstrip(".")
        if model := section(field.annotation):
            yield from sections(model, below)
        elif model := item_section(field.annotation):
            yield from sections(model, f"{below}.*")


def allowed(field: FieldInfo) -> str:
    """What a key may hold, in words: ``integer ≥ 1 or null``, ``concise or full``, ``mapping``."""
    if section(field.annotation):
        return "mapping"
    if item_section(field.annotation):
        return "list of mappings"
    bounds = "".join(_bound(item) for item in field.metadata)
    origin, alternatives = get_origin(field.annotation), get_args(field.annotation)
    if origin is Literal:
        return " or ".join(str(value) for value in alternatives)
    kinds = [_kind(kind, bounds) for kind in (alternatives if origin is UnionType else [field.annotation])]
    return " or ".join(kinds)


def _kind(annotation: Any, bounds: str) -> str:
    if annotation in (int, float):
        return _KINDS[annotation] + bounds
    if get_origin(annotation) is tuple:
        item = get_args(annotation)[0]
        return f"list of {', '.join(get_args(item)) if get_origin(item) is Literal else _KINDS[item]}"
    return "mapping" if get_origin(annotation) is dict else _KINDS[annotation]


def _bound(constraint: Any) -> str:
    match constraint:
        case Ge(ge=bound):
            return f" ≥ {bound}"
        case Gt(gt=bound):
            return f" > {bound}"
        case Lt(lt=bound):
            return f" and < {bound}"
    return ""


def unknown_key(path: Sequence[str], value: Any, model: type[BaseModel], root: type[BaseModel] = RunConfig) -> str:
    """The problem of a key that its section does not have.

    Args:
        path: segments of the dotted path; the last one is the key.
        value: what was found there.
        model: the section.
        root: what the path begins in.
    """
    where, key = ".".join(path), path[-1]
    now = next((now for old, now in _RENAMED.items() if f".{where}".endswith(f".{old}")), None)
    if now is not None:
        return f"{where}: unknown key, found {show(value)}; it is now {now}"
    keys = list(model.model_fields)
    elsewhere = [f"{place}.{key}".lstrip(".") for place, other in sections(root) if key in other.model_fields]
    hint = did_you_mean(key, keys) or (f"did you mean {' or '.join(elsewhere)}? " if elsewhere else "")
    return f"{where}: unknown key, found {show(value)}; {hint}allowed: {', '.join(keys)}"


def show(value: Any) -> str:
    """A value for a message, on one line and not too long."""
    text = without_credentials(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
