"""The reference of all configuration keys, made from the models, so that the documentation cannot fall behind."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedse.settings.schema import allowed, item_section, section, sections


def reference() -> str:
    """Markdown: for every section a heading, what it is for, and a table of its keys."""
    return "\n\n".join(_section(path, model) for path, model in sections())


def _section(path: str, model: type[BaseModel]) -> str:
    rows = [
        _row(f"{path}.{name}".lstrip("."), field)
        for name, field in model.model_fields.items()
        if section(field.annotation) is None and item_section(field.annotation) is None
    ]
    summary = (model.__doc__ or "").partition("\n")[0]
    head = ["| Key | Allowed | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([f"### `{path}`" if path else "### The run", "", summary, "", *head, *rows])


def _row(path: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_json(field.get_default(call_default_factory=True))}`"
    return f"| `{path}` | {allowed(field)} | {default} | {field.description} |"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
