"""One update on the experience of all sites: what federated learning avoids, as the baseline that it is measured by.

Fed-SE's "Centralized" (arXiv 2512.08870), here with or without exploration.  Experience leaves the sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedse.adapters.files import load_adapter, save_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.experience.selection import get_selection
from fedse.progress import Listener, Phase
from fedse.runs.layout import RunLayout
from fedse.runs.phases import once
from fedse.seeding import derive_seed
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Client
from fedse.sites.training import distinct, examples_of, fine_tune, round_settings
from fedse.sites.watching import ClientProgress


class Pool:
    """All sites of a run as one learner.  With a single site it learns what that site alone would learn.

    Args:
        config: the run.
        clients: its sites.
        shared: the model that is trained.
        layout: where files go.
        listener: told of progress.
    """

    def __init__(
        self,
        config: RunConfig,
        clients: Sequence[Client],
        shared: SharedModel,
        layout: RunLayout,
        *,
        listener: Listener,
    ) -> None:
        self._config = config
        self._clients = sorted(clients, key=lambda client: client.name)
        self._shared = shared
        self._layout = layout
        self._progress = ClientProgress(listener, "")

    def round(self, round: int, start: AdapterState) -> AdapterState:
        """Train on what the sites have in a round, with as many optimizer steps as they would take between them.

        Done once, as the phases of a client are.

        Args:
            round: 1 or later; all sites have explored.
            start: the adapter that the update begins from.

        Returns:
            The global adapter after the round.

        Raises:
            AdapterError: if the adapter does not fit the model.
            DivergenceError: if the update left the finite numbers; there is no other update to go on with.
            StorageError, StoreError: if a file cannot be read or written.
        """
        report = once(self._layout.pooled(round), lambda: self._train(round, start))
        self._progress.finished(Phase.TRAIN, round, report)
        return load_adapter(self._layout.global_adapter(round), expect=self._shared.lora.meta)

    def _train(self, round: int, start: AdapterState) -> Mapping[str, Any]:
        found = [client.experience(round) for client in self._clients]
        steps = sum(client.planned_steps(round, held) for client, held in zip(self._clients, found, strict=True))
        selection = get_selection(self._config.method.filter)
        # The seed of a client's own update where it is the only one; no client's name holds a plus sign.
        name = "+".join(client.name for client in self._clients)
        adapter, metrics = fine_tune(
            self._shared.lora,
            start,
            examples_of(distinct([trajectory for held in found for trajectory in held]), selection),
            round_settings(self._config, round, steps),
            seed=derive_seed(self._config.seed, name, round, Phase.TRAIN.value),
            on_step=self._progress.steps(round),
        )
        save_adapter(adapter, self._layout.global_adapter(round), base_name=self._shared.lora.base.name)
        return metrics
