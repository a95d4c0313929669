"""The local updates of a round and what becomes of them, by what the sites share (``method.sharing``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedse.adapters.files import load_adapter, save_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig, Sharing
from fedse.errors import DivergenceError
from fedse.federation.aggregation import get_aggregator
from fedse.federation.server import DIVERGED, Server
from fedse.messages.update import ClientUpdate
from fedse.progress import Event, Listener, Phase
from fedse.runs.layout import RunLayout
from fedse.runs.phases import PhaseReport, completed
from fedse.sites.host import Job, Sites, Task


@dataclass(frozen=True)
class Federation:
    """A run at work.

    Attributes:
        config: what runs.
        layout: where files lie.
        listener: told of progress.
        sites: do the work.
    """

    config: RunConfig
    layout: RunLayout
    listener: Listener
    sites: Sites

    @property
    def clients(self) -> list[str]:
        """The sites' names, in the order of the configuration."""
        return [client.name for client in self.config.clients]

    def ask(self, task: Task, round: int, clients: Iterable[str]) -> list[Any]:
        """Have sites do the same."""
        return self.sites.do([Job(task, client, round) for client in clients])

    def save(self, round: int, adapter: AdapterState) -> None:
        """Write a global adapter."""
        folder = self.layout.global_adapter(round)
        if not folder.exists():  # else a resumed run has just computed the same one again
            save_adapter(adapter, folder, base_name=self.config.model.name)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a round came to.

    Attributes:
        adapter: digest of the new global adapter; empty if there is none.
        adapters: client → digest of its own adapter, where sites are isolated.
        outcomes: client → what became of its update, where updates are aggregated; of isolated clients those alone
            whose update came to nothing.
        pooled: of the update on all sites' experience, where that is pooled.
        seconds: of the aggregation.
    """

    adapter: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    pooled: PhaseReport | None = None
    seconds: float = 0.0


def exchange(federation: Federation, round: int) -> Exchanged:
    """Complete a round but for its evaluation.

    Raises:
        FedseError: the first error of a site, or of the server; see :class:`fedse.sites.site.Client` and
            :class:`fedse.federation.server.Server`.
    """
    return _EXCHANGES[federation.config.method.sharing](federation, round)


def _federated(federation: Federation, round: int) -> Exchanged:
    """Local updates, aggregated by the server."""
    updates, diverged = _update(federation, round)
    began = time.monotonic()
    method, layout = federation.config.method, federation.layout
    server = Server(
        get_aggregator(method.aggregator),
        federation.clients,
        load_adapter(layout.global_adapter(round - 1)),
        server_lr=method.server_lr,
        rounds=round - 1,
        start=load_adapter(layout.global_adapter(0)) if method.restart else None,
    )
    adapter = server.round(updates, diverged=diverged)
    federation.save(round, adapter)
    seconds = time.monotonic() - began
    told = Event(Phase.AGGREGATE, round, "", len(updates), len(updates), seconds=seconds, finished=True)
    federation.listener(told)
    return Exchanged(adapter.digest, outcomes=server.outcomes, seconds=seconds)


def _pooled(federation: Federation, round: int) -> Exchanged:
    """One update on what all sites have."""
    federation.ask(Task.EXPLORE, round, federation.clients)
    [adapter] = federation.sites.do([Job(Task.POOL, "", round)])
    return Exchanged(adapter.digest, pooled=completed(federation.layout.pooled(round)))


def _isolated(federation: Federation, round: int) -> Exchanged:
    """Local updates, each kept by its site."""
    updates, diverged = _update(federation, round)
    if not updates:
        raise DivergenceError(
            f"the updates of all sites diverged in round {round}", "begin a new run with a lower training.learning_rate"
        )
    digests = {update.client: update.adapter.digest for update in updates}
    digests |= {name: load_adapter(federation.layout.update(round, name)).digest for name in diverged}
    return Exchanged(adapters=dict(sorted(digests.items())), outcomes=dict.fromkeys(diverged, DIVERGED))


def _update(federation: Federation, round: int) -> tuple[list[ClientUpdate], list[str]]:
    """The sites' updates, and which sites have none because their training diverged."""
    updates = dict(zip(federation.clients, federation.ask(Task.ROUND, round, federation.clients), strict=True))
    return [update for update in updates.values() if update], [name for name, update in updates.items() if not update]


_EXCHANGES: Mapping[Sharing, Callable[[Federation, int], Exchanged]] = {
    "federated": _federated,
    "pooled": _pooled,
    "isolated": _isolated,
}
