"""What each client's update does in every environment: the direct measure of transfer, positive or negative.

The deltas' geometry says whether updates agree, not whether they help.  Here the adapter that a client returned plays
the held-out tasks of all environments, next to the broadcast adapter it began from and the global one it went into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedse.adapters.state import AdapterState
from fedse.results.method import combined_sites, has_own_adapters, starting_round
from fedse.results.reading import Run, run_at
from fedse.sites.evaluation import evaluate_sites
from fedse.sites.shared_model import SharedModel
from fedse.types import RoundRecord, SuccessRate

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class TransferMatrix:
    """Success rates of several adapters, after the last completed round, in all environments.

    Attributes:
        rates: adapter → environment → success rate; adapters are :data:`BEFORE` (broadcast), ``client <name>`` (as the
            client returned it) and :data:`AFTER` (the new global one), as far as the run's sites share such adapters.
    """

    round: int
    rates: Mapping[str, Mapping[str, SuccessRate]]


def transfer_matrix(
    folder: Path, *, tasks: int | None = None, on_rate: Callable[[str, str, SuccessRate], None] | None = None
) -> TransferMatrix:
    """Play the held-out tasks of every environment with the adapters of a run's last round, as the run itself does.

    A finished run with isolated sites has done so already: its record is taken unless ``tasks`` asks for others.

    Args:
        folder: the run folder.
        tasks: of each environment; by default as many as the run evaluates on.
        on_rate: told of each adapter, environment and rate when it is known.

    Raises:
        RunError: if no round is complete.
        AdapterError, ModelError: if an adapter or the base model cannot be loaded.
        EnvironmentFault: if every episode in an environment was lost to a fault.
    """
    run = run_at(folder)
    run.check_begun()
    config, last = run.config, run.records[-1]
    if last.transfer and tasks is None:
        return TransferMatrix(last.round, {f"client {name}": rates for name, rates in last.transfer.items()})
    adapters = _adapters(run, last)
    if tasks:
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"tasks": tasks})})
    shared = SharedModel.load(config)
    clients = {client.name: client for client in config.clients}
    rates: dict[str, dict[str, SuccessRate]] = {}
    for adapter, state in adapters.items():
        sites = {label: clients[name] for label, name in run.evaluators.items()}
        for label, rate, _ in evaluate_sites(shared.player, state, config, sites):
            rates.setdefault(adapter, {})[label] = rate
            if on_rate:
                on_rate(adapter, label, rate)
    return TransferMatrix(last.round, rates)


def _adapters(run: Run, last: RoundRecord) -> dict[str, AdapterState]:
    if has_own_adapters(run.config):
        return {f"client {name}": run.adapter(last.round, name) for name in sorted(run.config.sites)}
    return {
        BEFORE: run.adapter(starting_round(run.config, last.round)),
        **{f"client {name}": run.update(last.round, name) for name in combined_sites(last)},
        AFTER: run.adapter(last.round),
    }
