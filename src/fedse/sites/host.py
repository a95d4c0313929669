"""The sites of a run that live in one process, and the jobs that a runtime gives them.

A job is small and travels well: its inputs and outputs lie in the run folder, so it does not matter which process does
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fedse.adapters.files import load_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.messages.update import ClientUpdate
from fedse.progress import Listener
from fedse.runs.layout import RunLayout
from fedse.seeding import derive_seed
from fedse.sites.pooling import Pool
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Client
from fedse.types import SuccessRate


class Task(StrEnum):
    """What can be asked; of a site, see the methods of :class:`fedse.sites.site.Client`."""

    INITIALIZE = "initialize"
    DEMONSTRATE = "demonstrate"
    EXPLORE = "explore"
    ROUND = "round"
    POOL = "pool"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Job:
    """One task: of one site, or to make the adapter that round 0 begins with, or to train on what all sites have.

    Attributes:
        task: what to do.
        client: the site; empty for none.
        round: of the federation; a round begins with the adapter of the round before, an evaluation plays with the one
            of its own round.
        other: an evaluation plays with the adapter of this site, if it is not the site's own.
    """

    task: Task
    client: str
    round: int
    other: str = ""


class Sites(Protocol):
    """Where the sites of a run do their work."""

    def do(self, jobs: Sequence[Job]) -> list[Any]:
        """Do jobs that do not depend on each other.

        Returns:
            In the order of the jobs, by task: an AdapterState (initialize, pool), None (demonstrate, explore), a
            ClientUpdate or, if training diverged, None (round), or a SuccessRate (evaluate).

        Raises:
            FedseError: the first error of a job; see the methods of :class:`fedse.sites.site.Client`.
        """


class LocalSites:
    """All sites in this process: they take turns on one frozen base model.

    Args:
        config: the run.
        layout: where files go.
        listener: told of progress.

    Raises:
        ModelError, AdapterError: if the base model cannot be loaded or adapted.
        ConfigError, UnknownNameError, EnvironmentFault: if a site cannot be set up.
    """

    def __init__(self, config: RunConfig, layout: RunLayout, listener: Listener) -> None:
        self._config = config
        self._layout = layout
        self._shared = SharedModel.load(config)
        self._clients = {
            client.name: Client(config, client, self._shared, layout, listener=listener) for client in config.clients
        }
        self._pool = Pool(config, list(self._clients.values()), self._shared, layout, listener=listener)

    def do(self, jobs: Sequence[Job]) -> list[Any]:
        """See :class:`Sites`."""
        return [self._do(job) for job in jobs]

    def _do(self, job: Job) -> AdapterState | ClientUpdate | SuccessRate | None:
        match job.task:
            case Task.INITIALIZE:
                return self._shared.lora.initial_state(derive_seed(self._config.seed, "adapter"))
            case Task.DEMONSTRATE:
                self._clients[job.client].demonstrate()
                return None
            case Task.EXPLORE:
                self._clients[job.client].explore(job.round, self._adapter(job.round - 1, job.client))
                return None
            case Task.ROUND:
                adapter = self._adapter(job.round - 1, job.client)
                return self._clients[job.client].round(job.round, adapter, start=self._start(job, adapter))
            case Task.POOL:
                return self._pool.round(job.round, self._start(job, self._adapter(job.round - 1, job.client)))
            case Task.EVALUATE:
                adapter = self._adapter(job.round, job.other or job.client)
                return self._clients[job.client].evaluate(job.round, adapter, other=job.other)

    def _start(self, job: Job, adapter: AdapterState) -> AdapterState:
        """Where the update of a round begins, given the adapter after the round before."""
        return self._adapter(0, job.client) if self._config.method.restart else adapter

    def _adapter(self, round: int, client: str) -> AdapterState:
        folder = self._layout.site_adapter(round, client, self._config.method.sharing)
        return load_adapter(folder, expect=self._shared.lora.meta)
