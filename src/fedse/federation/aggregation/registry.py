"""The registry of aggregators.  One is added with a decorator, from any package:

    @aggregator("median", citation="Yin et al. 2018, arXiv 1803.01498")
    def median(global_, updates): ...

An aggregator is a pure function of the broadcast adapter and the validated updates of one round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError
from fedse.messages.update import ClientUpdate
from fedse.names import unknown_name

#: (broadcast adapter, validated updates of at least one client) → combined adapter.
Combine = Callable[[AdapterState, Sequence[ClientUpdate]], AdapterState]


@dataclass(frozen=True)
class Aggregator:
    """A named way to combine the clients' adapters.

    Attributes:
        name: as in ``method.aggregator``.
        combine: must depend neither on the order of the updates nor on anything but its arguments.
        needs: names of the scalars, finite and ≥ 0, that each client must send beside its adapter; they leave the site.
        citation: where the method comes from.
    """

    name: str
    combine: Combine
    needs: frozenset[str]
    citation: str


_REGISTRY: dict[str, Aggregator] = {}


def aggregator(name: str, *, citation: str, needs: Iterable[str] = ()) -> Callable[[Combine], Combine]:
    """Register the decorated function under ``name``; the function itself is returned unchanged.

    Raises:
        ConfigError: if another function has the name already.
    """

    def register(combine: Combine) -> Combine:
        if name in _REGISTRY:
            raise ConfigError(f"there is an aggregator {name!r} already", "register yours under another name")
        _REGISTRY[name] = Aggregator(name, combine, frozenset(needs), citation)
        return combine

    return register


def aggregator_names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_REGISTRY)


def get_aggregator(name: str) -> Aggregator:
    """The aggregator registered under ``name``.

    Raises:
        UnknownNameError: if there is none; the message offers the nearest name.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    raise unknown_name("aggregator", name, aggregator_names())
