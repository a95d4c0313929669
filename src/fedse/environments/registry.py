"""Environments by name, found through the entry-point group ``fedse.environments``.

Built-in environments use the same door as third-party ones, so a package adds an environment by declaring an entry
point, without touching fedse.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from typing import Any

from fedse.addresses import check_address
from fedse.environments.base import Environment
from fedse.errors import ConfigError, EnvironmentFault, boundary
from fedse.names import did_you_mean, unknown_name
from fedse.plugins import distribution, installed

GROUP = "fedse.environments"
#: Names that begin so are addresses of servers; the function gives the class of the environment that is played there.
REMOTE = {
    "agentgym:": "fedse.environments.agentgym.client:remote_class",
    "openenv:": "fedse.environments.openenv.client:remote_class",
}


def environment_names() -> list[str]:
    """The names of all installed environments, sorted."""
    return sorted(installed(GROUP))


def class_names() -> dict[str, str]:
    """Name → name of the class, of all installed environments; nothing is imported."""
    return {name: points[0].attr for name, points in sorted(installed(GROUP).items())}


def environment_class(name: str) -> type[Environment]:
    """The class behind a name; ``agentgym:http://host:port`` and ``openenv:…`` are names of servers, by their protocol.

    Raises:
        ConfigError: if the name is no address of a server where it should be, or holds credentials.
        UnknownNameError: if nothing of that name is installed; the message offers the nearest names.
        EnvironmentFault: if its distribution cannot be imported, does not hold an environment, or clashes with another.
    """
    for prefix, where in REMOTE.items():
        if name.startswith(prefix):
            check_address(name.removeprefix(prefix))
            # Imported here because it builds on this module, and because few need a network library.
            remote_class: Callable[[str], type[Environment]] = pkgutil.resolve_name(where)
            return remote_class(name)
    points = installed(GROUP).get(name)
    if points is None:
        raise unknown_name("environment", name, environment_names())
    if len({point.value for point in points}) > 1:
        owners = " and ".join(f"{distribution(point)} ({point.value})" for point in points)
        raise EnvironmentFault(f"two distributions provide an environment named {name!r}: {owners}", "uninstall one")
    return _load(points[0])


def make(name: str, **options: Any) -> Environment:
    """A new environment with the given options.

    Raises:
        UnknownNameError: if nothing of that name is installed.
        ConfigError: if an option is unknown, missing, or has a bad value.
        EnvironmentFault: if the environment cannot be imported or brought up.
    """
    cls = environment_class(name)
    _check_options(cls, name, options)
    try:
        with boundary(EnvironmentFault, f"environment {name!r} could not be created"):
            return cls(**options)
    except EnvironmentFault as fault:
        if isinstance(fault.__cause__, TypeError | ValueError):
            raise ConfigError(f"environment {name!r} refused its options {options}: {fault.__cause__}") from fault
        raise


def option_names(cls: type[Environment]) -> list[str]:
    """The options of an environment class: the keyword-only arguments of its ``__init__``, in order."""
    return [parameter.name for parameter in _parameters(cls) if parameter.kind is parameter.KEYWORD_ONLY]


def _parameters(cls: type[Environment]) -> Iterable[inspect.Parameter]:
    return inspect.signature(cls).parameters.values()


def _check_options(cls: type[Environment], name: str, options: dict[str, Any]) -> None:
    known = option_names(cls)
    unknown = [option for option in options if option not in known]
    if unknown:
        advice = "".join(did_you_mean(option, known) for option in unknown)
        raise ConfigError(
            f"environment {name!r} has no option {', '.join(map(repr, unknown))}",
            f"{advice}its options: {', '.join(known) or 'none'}",
        )
    missing = [
        parameter.name
        for parameter in _parameters(cls)
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is parameter.empty
        and parameter.name not in options
    ]
    if missing:
        raise ConfigError(f"environment {name!r} needs the option {', '.join(map(repr, missing))}", "give it a value")


@functools.lru_cache(maxsize=64)
def _load(point: EntryPoint) -> type[Environment]:
    where = f"environment {point.name!r} of distribution {distribution(point)} ({point.value})"
    with boundary(EnvironmentFault, f"{where} could not be imported", "repair or uninstall that distribution"):
        cls = point.load()
    if not (isinstance(cls, type) and issubclass(cls, Environment)):
        raise EnvironmentFault(f"{where} is not a subclass of fedse.environments.Environment: found {cls!r}")
    if getattr(cls, "name", None) != point.name:
        found = getattr(cls, "name", None)
        raise EnvironmentFault(f"{where} calls itself {found!r}", "make its `name` equal to the entry point's")
    return cls
