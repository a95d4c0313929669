"""``fedse methods``: the methods that come with fedse, and the strategies that are installed."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

from fedse.cli.console import examples, show_table

EXAMPLES = examples(
    "fedse methods",
    "fedse run --preset quickstart --method fedit",
    "fedse run --preset quickstart --set method.strategy=weighted_mean --set method.options.server_lr=2",
)


def methods() -> None:
    """List the methods for ``fedse run --method`` and for suites, and the strategies for ``method.strategy``.

    Methods are shown with the settings that make them, strategies with their options for ``method.options``.
    """
    from fedse.federation.strategies import strategy_names
    from fedse.settings import flat_settings, method_names, read_method

    found = map(read_method, method_names())
    rows = [(method.name, method.label, method.description, _list(flat_settings(method.set))) for method in found]
    headings = ("name", "label", "what it is", "settings")
    show_table(headings, rows, texts=headings)
    headings = ("name", "what it is", "options", "source")
    show_table(headings, map(_strategy, strategy_names()), title="\nStrategies", texts=headings)


def _strategy(name: str) -> tuple[str, str, str, str]:
    from fedse.errors import ConfigError
    from fedse.federation.strategies import strategy_class

    try:
        cls = strategy_class(name)
    except ConfigError as cause:  # one broken distribution must not hide the others
        return name, f"cannot be used: {cause.what}", "", ""
    options = {option.name: _default(option) for option in fields(cls)}  # type: ignore[arg-type]  # it is a dataclass
    return name, (cls.__doc__ or "").strip().partition("\n")[0], _list(options) or "none", getattr(cls, "citation", "")


def _default(option: Field[Any]) -> Any:
    if option.default is not MISSING:
        return option.default
    return "(required)" if option.default_factory is MISSING else option.default_factory()


def _list(settings: dict[str, Any]) -> str:
    shown = {path: str(value).lower() if isinstance(value, bool) else value for path, value in settings.items()}
    return ", ".join(f"{path}={value}" for path, value in shown.items())
