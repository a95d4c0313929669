"""The sites of a run that live in one process, and the jobs that a runtime gives them.

A job is small and travels well: its inputs and outputs lie in the run folder, so it does not matter which process does
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from fedse.config import RunConfig
from fedse.federation.adapter_io import load_adapter
from fedse.federation.client import Client
from fedse.federation.layout import RunLayout
from fedse.federation.shared_model import SharedModel
from fedse.progress import Listener
from fedse.seeding import derive_seed
from fedse.types import AdapterState, ClientUpdate, SuccessRate


class Task(StrEnum):
    """What can be asked; of a site, see the methods of :class:`fedse.federation.client.Client`."""

    INITIALIZE = "initialize"
    DEMONSTRATE = "demonstrate"
    ROUND = "round"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Job:
    """One task, of one site unless it is to initialize the adapter that round 0 begins with.

    Attributes:
        task: what to do.
        client: the site; empty for none.
        round: of the federation; a round begins with the global adapter of the round before, an evaluation plays with
            the one of its own round.
    """

    task: Task
    client: str
    round: int


class Sites(Protocol):
    """Where the sites of a run do their work."""

    def do(self, jobs: Sequence[Job]) -> list[Any]:
        """Do jobs that do not depend on each other.

        Returns:
            In the order of the jobs: an AdapterState, None, a ClientUpdate or a SuccessRate, by task.

        Raises:
            FedseError: the first error of a job; see the methods of :class:`fedse.federation.client.Client`.
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
        self._seed = config.seed
        self._layout = layout
        self._shared = SharedModel.load(config)
        self._clients = {
            client.name: Client(config, client, self._shared, layout, listener=listener) for client in config.clients
        }

    def do(self, jobs: Sequence[Job]) -> list[Any]:
        """See :class:`Sites`."""
        return [self._do(job) for job in jobs]

    def _do(self, job: Job) -> AdapterState | ClientUpdate | SuccessRate | None:
        match job.task:
            case Task.INITIALIZE:
                return self._shared.lora.initial_state(derive_seed(self._seed, "adapter"))
            case Task.DEMONSTRATE:
                self._clients[job.client].demonstrate()
                return None
            case Task.ROUND:
                return self._clients[job.client].round(job.round, self._global(job.round - 1))
            case Task.EVALUATE:
                return self._clients[job.client].evaluate(job.round, self._global(job.round))

    def _global(self, round: int) -> AdapterState:
        return load_adapter(self._layout.global_adapter(round), expect=self._shared.lora.meta)
