"""Where an exported adapter comes from, and what its base model is called outside fedse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedse.adapters.state import AdapterState
from fedse.errors import ModelError
from fedse.models import catalogue
from fedse.results.reading import Run
from fedse.types import RoundRecord, SuccessRate


@dataclass(frozen=True)
class Origin:
    """An adapter and the run that made it.

    Attributes:
        run: as read from its folder.
        round, adapter: the adapter is that after this round.
        client: the site whose own adapter it is; empty for the one that all sites have.
        cut: share of the adapter's change of the weights that compressing it has cut off.
    """

    run: Run
    round: int
    client: str
    adapter: AdapterState
    cut: float = 0.0

    @property
    def before(self) -> Mapping[str, SuccessRate]:
        """Success on held-out tasks with the fresh adapter, which changes nothing: that of the base model."""
        return self._evaluation(self.run.records[0])

    @property
    def after(self) -> Mapping[str, SuccessRate]:
        """Success on held-out tasks with this adapter; empty if the round was not evaluated."""
        return self._evaluation(self.run.records[self.round])

    @property
    def elsewhere(self) -> Mapping[str, SuccessRate]:
        """Success of an isolated site's adapter on the held-out tasks of the other sites, where that was measured."""
        rates = self.run.records[self.round].transfer.get(self.client, {})
        return {label: rate for label, rate in rates.items() if label not in self.after}

    def _evaluation(self, record: RoundRecord) -> Mapping[str, SuccessRate]:
        sites = self.run.evaluators
        return {
            label: rate for label, rate in record.evaluation.items() if not self.client or sites[label] == self.client
        }


def loadable_base(name: str) -> str | None:
    """What ``from_pretrained`` takes for the model that a run names: a Hugging Face id or an absolute path.

    ``None`` for a model that is made by code and has no files.

    Raises:
        ModelError: if the model is not on this machine and cannot be a Hugging Face id.
    """
    if name == "tiny":
        return None
    place = catalogue.resolve(name)
    return str(Path(place).absolute()) if Path(place).is_dir() else place


def found_base(name: str) -> str | None:
    """As :func:`loadable_base`, and ``None`` for a model that is not on this machine."""
    try:
        return loadable_base(name)
    except ModelError:
        return None


def hub_id(name: str) -> str | None:
    """The model's id on the Hugging Face hub, if the run took it from there."""
    place = found_base(name)
    return place if place and not Path(place).is_absolute() else None
