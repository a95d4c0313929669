"""What each client's update does in every environment: the direct measure of transfer, positive or negative.

The deltas' geometry says whether updates agree, not whether they help.  Here the adapter that a client returned plays
the held-out tasks of all environments, next to the broadcast adapter it began from and the global one it went into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.diagnostics.combined import combined_sites, starting_round
from fedse.errors import RunError
from fedse.runs.evaluators import evaluators
from fedse.runs.folder import read_config, read_records
from fedse.runs.layout import RunLayout
from fedse.sites.evaluation import evaluate_site
from fedse.sites.shared_model import SharedModel
from fedse.types import RoundRecord, SuccessRate

BEFORE = "before"
AFTER = "after"


@dataclass(frozen=True)
class TransferMatrix:
    """Success rates of several adapters in all environments.

    Attributes:
        round: the last completed one.
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
        tasks: per environment; by default as many as the run evaluates on.
        on_rate: told of each adapter, environment and rate when it is known.

    Raises:
        RunError: if no round is complete.
        AdapterError, ModelError: if an adapter or the base model cannot be loaded.
        EnvironmentFault: if every episode in an environment was lost to a fault.
    """
    layout = RunLayout(folder)
    config, records = read_config(layout), read_records(layout)
    if len(records) < 2:
        raise RunError(
            f"{folder} has no complete round yet",
            f"fedse run --resume --out {folder} goes on with it, unless it is to have none (rounds: 0)",
        )
    last = records[-1]
    if last.transfer and tasks is None:
        return TransferMatrix(last.round, {f"client {name}": rates for name, rates in last.transfer.items()})
    places = _places(layout, config, last)
    if tasks:
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"tasks": tasks})})
    shared = SharedModel.load(config)
    clients = {client.name: client for client in config.clients}
    rates: dict[str, dict[str, SuccessRate]] = {}
    for adapter, place in places.items():
        state = load_adapter(place)
        for label, name in evaluators(config).items():
            rate, _ = evaluate_site(shared.player, state, config, clients[name])
            rates.setdefault(adapter, {})[label] = rate
            if on_rate:
                on_rate(adapter, label, rate)
    return TransferMatrix(last.round, rates)


def _places(layout: RunLayout, config: RunConfig, last: RoundRecord) -> dict[str, Path]:
    """Adapter → its folder."""
    if config.method.sharing == "isolated":
        return {f"client {name}": layout.update(last.round, name) for name in sorted(last.clients)}
    return {
        BEFORE: layout.global_adapter(starting_round(config, last.round)),
        **{f"client {name}": layout.update(last.round, name) for name in combined_sites(last)},
        AFTER: layout.global_adapter(last.round),
    }
