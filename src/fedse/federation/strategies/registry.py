"""Strategies by name: the built-in ones, those of entry points, and those that a program registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeGuard

from pydantic import TypeAdapter, ValidationError

from fedse.errors import ConfigError, boundary
from fedse.federation.strategies.base import Strategy
from fedse.messages import SCALARS
from fedse.names import did_you_mean, unknown_name
from fedse.plugins import distribution, installed

#: Packages name their strategies, subclasses of :class:`Strategy`, in this group.
GROUP = "fedse.strategies"

_REGISTERED: dict[str, type[Strategy]] = {}
_FORM = "make it a subclass of fedse.Strategy and a frozen dataclass"


def register(cls: type[Strategy]) -> type[Strategy]:
    """Make a strategy known to this process; a decorator.  A package declares an entry point instead.

    Raises:
        ConfigError: if another class has the name already, or this one is no strategy.
    """
    if not _is_strategy(cls):
        raise ConfigError(f"{cls.__name__} is no strategy", _FORM)
    if _REGISTERED.setdefault(cls.name, cls) is not cls or cls.name in installed(GROUP):
        raise ConfigError(f"there is a strategy {cls.name!r} already", "give yours another name")
    return cls


def strategy_names() -> list[str]:
    """All known names, sorted."""
    return sorted({*_REGISTERED, *installed(GROUP)})


def strategy_class(name: str) -> type[Strategy]:
    """The strategy of a name.

    Raises:
        UnknownNameError: for an unknown name; offers the nearest ones.
        ConfigError: if the package of the strategy is broken.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    points = installed(GROUP).get(name)
    if points is None:
        raise unknown_name("strategy", name, strategy_names())
    if len({point.value for point in points}) > 1:
        owners = " and ".join(f"{distribution(point)} ({point.value})" for point in points)
        raise ConfigError(f"two distributions provide a strategy named {name!r}: {owners}", "uninstall one")
    where = f"strategy {name!r} of distribution {distribution(points[0])} ({points[0].value})"
    with boundary(ConfigError, f"{where} could not be imported", "repair or uninstall that distribution"):
        cls: Any = points[0].load()
    if not (_is_strategy(cls) and cls.name == name):
        raise ConfigError(f"{where} is no strategy of that name", f"{_FORM}, with the name of its entry point")
    return cls


def make_strategy(name: str, options: Mapping[str, Any]) -> Strategy:
    """A strategy with its options.

    Raises:
        UnknownNameError: for an unknown name.
        ConfigError: for an unknown option or a bad value, or if the strategy needs a scalar that sites do not have.
    """
    cls = strategy_class(name)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # strategies are dataclasses
    unknown = [option for option in options if option not in known]
    if unknown:
        advice = "".join(did_you_mean(option, known) for option in unknown)
        raise ConfigError(
            f"strategy {name!r} has no option {', '.join(map(repr, unknown))}",
            f"{advice}its options: {', '.join(known) or 'none'} (method.options)",
        )
    try:
        strategy: Strategy = TypeAdapter(cls).validate_python(dict(options))
    except ValidationError as cause:
        problems = "; ".join(
            ": ".join([*map(str, error["loc"]), error["msg"]]) for error in cause.errors(include_url=False)
        )
        raise ConfigError(f"strategy {name!r} refuses its options: {problems}", "mend method.options") from cause
    missing = sorted(strategy.needs - SCALARS.keys())
    if missing:
        raise ConfigError(
            f"strategy {name!r} needs {', '.join(missing)} of each site; sites can tell: {', '.join(SCALARS)}",
            "choose another method.strategy",
        )
    return strategy


def _is_strategy(cls: Any) -> TypeGuard[type[Strategy]]:
    return isinstance(cls, type) and issubclass(cls, Strategy) and is_dataclass(cls)
