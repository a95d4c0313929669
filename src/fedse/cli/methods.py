"""``fedse methods``: the methods that come with fedse."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from fedse.cli.console import examples, print_table

EXAMPLES = examples("fedse methods", "fedse run --preset quickstart --method fedit")


def methods() -> None:
    """List the methods for ``fedse run --method`` and for suites, with the settings that make them."""
    from fedse.settings import flat_settings, method_names, read_method

    table = Table("name", "label", "what it is", "settings", box=None, pad_edge=False)
    for name in method_names():
        method = read_method(name)
        settings = ", ".join(f"{path}={_value(value)}" for path, value in flat_settings(method.set).items())
        table.add_row(*(Text(text) for text in (name, method.label, method.description, settings)))
    print_table(table)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
