"""The local updates of a round and what becomes of them, by what the sites share (``method.sharing``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedse.config import RunConfig, Sharing
from fedse.federation.adapter_io import load_adapter, save_adapter
from fedse.federation.aggregation import get_aggregator
from fedse.federation.layout import RunLayout
from fedse.federation.phases import PhaseReport, completed
from fedse.federation.runtimes.sites import Job, Sites, Task
from fedse.federation.server import Server
from fedse.progress import Event, Listener, Phase
from fedse.types import AdapterState


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
        outcomes: client → what became of its update, where updates are aggregated.
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
        FedseError: the first error of a site, or of the server; see :class:`fedse.federation.client.Client` and
            :class:`fedse.federation.server.Server`.
    """
    return _EXCHANGES[federation.config.method.sharing](federation, round)


def _federated(federation: Federation, round: int) -> Exchanged:
    """Local updates, aggregated by the server."""
    updates = federation.ask(Task.ROUND, round, federation.clients)
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
    adapter = server.round(updates)
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
    updates = federation.ask(Task.ROUND, round, federation.clients)
    return Exchanged(adapters={update.client: update.adapter.digest for update in updates})


_EXCHANGES: Mapping[Sharing, Callable[[Federation, int], Exchanged]] = {
    "federated": _federated,
    "pooled": _pooled,
    "isolated": _isolated,
}
