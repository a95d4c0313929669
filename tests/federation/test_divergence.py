"""A site whose training diverges is left out of its round; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.errors import DivergenceError, UpdateRejectedError
from fedse.federation.run import run
from fedse.learning.update import local_update
from fedse.messages import Diverged
from fedse.models.lora import LoraModel
from fedse.progress import Event, Phase
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.seeding import derive_seed
from helpers.toy_runs import StoppedError, fingerprint, reply, toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy")

SITES = (toy_client("alpha"), toy_client("beta"))
Diverge = Callable[..., None]


def config_of(strategy: str, **changes: Any) -> RunConfig:
    return toy_config(*SITES, method={"strategy": strategy}, **changes)


@pytest.fixture
def diverge(monkeypatch: pytest.MonkeyPatch) -> Diverge:
    """Make the updates of sites diverge in a round: by an error, or silently in the last step."""

    def patch(*sites: str, round: int, silently: bool = False) -> None:
        seeds = {derive_seed(0, site, round, Phase.TRAIN.value) for site in sites}

        def diverging(lora: LoraModel, *arguments: Any, seed: int, **options: Any) -> Any:
            if seed not in seeds:
                return local_update(lora, *arguments, seed=seed, **options)
            if not silently:
                raise DivergenceError("step 2 of 2: the loss is nan")
            stats = local_update(lora, *arguments, seed=seed, **options)
            lora.trainable()[0].data.fill_(float("inf"))
            return stats

        monkeypatch.setattr("fedse.sites.training.local_update", diverging)

    return patch


@pytest.mark.parametrize("silently", [False, True])
def test_the_others_are_aggregated_without_it(tmp_path: Path, diverge: Diverge, silently: bool) -> None:
    diverge("beta", round=1, silently=silently)
    events: list[Event] = []
    result = run(config_of("mean"), tmp_path, listener=events.append)
    first, second = result.records[1:]
    assert load_adapter(RunFolder(tmp_path).server.global_adapter(1)).digest == update(tmp_path, 1, "alpha").digest
    assert reply(tmp_path, 1, "beta").answer == Diverged()
    assert not RunFolder(tmp_path).site("beta").adapter(1).exists()
    assert (first.clients["alpha"]["outcome"], first.clients["beta"]["outcome"]) == ("ok", "diverged")
    trained = first.clients["beta"]["train"]
    assert trained["steps"] == 0 < trained["examples"]
    cause = "infinite" if silently else "step 2 of 2: the loss is nan"
    assert cause in trained["diverged"]
    notes = {(event.client, event.round): event.note for event in events if event.phase is Phase.TRAIN}
    assert cause in notes.pop(("beta", 1))
    assert set(notes.values()) == {""}
    assert {metrics["outcome"] for metrics in second.clients.values()} == {"ok"}  # it is welcome again


@pytest.mark.parametrize("strategy", ["mean", "isolated"])
def test_a_run_in_which_all_diverge_stops_with_what_happened(tmp_path: Path, diverge: Diverge, strategy: str) -> None:
    diverge("alpha", "beta", round=2)
    for _ in range(2):
        with pytest.raises(UpdateRejectedError, match="alpha diverged; beta diverged") as caught:
            run(config_of(strategy), tmp_path, resume=True)
        assert "learning_rate" in caught.value.mend
    assert [record.round for record in read_records(RunFolder(tmp_path).server)] == [0, 1]


def test_an_isolated_site_keeps_the_adapter_that_it_had(tmp_path: Path, diverge: Diverge) -> None:
    diverge("beta", round=2)
    result = run(config_of("isolated", rounds=3), tmp_path)
    first, second, third = result.records[1:]
    assert second.adapters["beta"] == first.adapters["beta"]
    assert second.adapters["alpha"] != first.adapters["alpha"]
    assert third.adapters["beta"] != second.adapters["beta"]
    assert second.clients["beta"]["outcome"] == "diverged"
    assert second.clients["alpha"]["outcome"] == "ok"


def test_a_site_of_several_environments_diverges_as_one(tmp_path: Path, diverge: Diverge) -> None:
    diverge("alpha+beta", round=1)
    config = toy_config(*(site | {"site": "all"} for site in SITES))
    with pytest.raises(UpdateRejectedError, match="all diverged"):
        run(config, tmp_path)


@pytest.mark.parametrize("strategy", ["mean", "isolated", "fedsa"])
def test_resuming_after_it_gives_the_same(tmp_path: Path, diverge: Diverge, strategy: str) -> None:
    diverge("alpha", round=1)
    config = config_of(strategy)
    run(config, tmp_path / "whole")

    def stop(event: Event) -> None:
        if (event.phase, event.client, event.finished) == (Phase.TRAIN, "alpha", True):
            raise StoppedError

    with pytest.raises(StoppedError):
        run(config, tmp_path / "stopped", listener=stop)
    run(config, tmp_path / "stopped", resume=True)
    assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "whole")
