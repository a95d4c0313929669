"""The base model's evaluation, taken over from a run that played the same episodes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from fedse.adapters.files import load_adapter, save_adapter
from fedse.config import RunConfig
from fedse.errors import AdapterError
from fedse.federation.run import run
from fedse.progress import Event, Phase
from fedse.runs.layout import RunFolder
from helpers.toy_runs import fingerprint, toy_client, toy_config

pytestmark = pytest.mark.usefixtures("toy")


def played(config: RunConfig, folder: Path, baselines: Iterable[Path]) -> set[str]:
    """Run, and tell which sites played held-out tasks before round 1."""
    sites: set[str] = set()

    def listener(event: Event) -> None:
        if event.phase is Phase.EVALUATE and event.round == 0 and not event.finished:
            sites.add(event.client)

    run(config, folder, listener=listener, baselines=baselines)
    return sites


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    folder = tmp_path / "donor"
    assert played(toy_config(rounds=0), folder, [tmp_path / "nowhere"]) == {"alpha"}, "alpha plays for both"
    return folder


def test_a_run_takes_over_what_another_method_and_rank_has_played(donor: Path, tmp_path: Path) -> None:
    config = toy_config(method={"explore": False}, lora={"rank": 4})
    assert played(config, tmp_path / "adopted", [donor]) == set()
    assert played(config, tmp_path / "alone", []) == {"alpha"}
    assert fingerprint(tmp_path / "adopted") == fingerprint(tmp_path / "alone")
    marker = RunFolder(tmp_path / "adopted").site("alpha").marker(0, Phase.EVALUATE)
    assert json.loads(marker.read_text())["seconds"] == 0, "it took this run no time"


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"evaluation": {"tasks": 3}}, {"rollout": {"max_repeats": 2}}, {"model": {"dtype": "bfloat16"}}],
    ids=["seed", "tasks", "repeats", "dtype"],
)
def test_other_episodes_are_played_anew(donor: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    assert played(toy_config(rounds=0, **changes), tmp_path / "other", [donor]) == {"alpha"}


def test_a_run_that_cannot_begin_leaves_nothing_to_another_configuration(donor: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError):
        run(toy_config(lora={"target_modules": ["no_such_module"]}), tmp_path / "mended", baselines=[donor])
    assert played(toy_config(seed=1), tmp_path / "mended", []) == {"alpha"}
    assert played(toy_config(seed=1), tmp_path / "fresh", []) == {"alpha"}
    assert fingerprint(tmp_path / "mended") == fingerprint(tmp_path / "fresh")


def test_a_site_with_other_turns_plays_its_own(donor: Path, tmp_path: Path) -> None:
    config = toy_config(toy_client("alpha", max_turns=1), toy_client("beta", max_turns=1), rounds=0)
    assert played(config, tmp_path / "other", [donor]) == {"alpha"}


def test_episodes_of_other_versions_are_played_anew(donor: Path, tmp_path: Path) -> None:
    versions = RunFolder(donor).server.versions
    versions.write_text(versions.read_text().replace('"torch": "', '"torch": "0.'))
    assert played(toy_config(rounds=0), tmp_path / "other", [donor]) == {"alpha"}


def test_episodes_that_were_lost_to_faults_are_played_anew(donor: Path, tmp_path: Path) -> None:
    marker = RunFolder(donor).site("alpha").marker(0, Phase.EVALUATE)
    report = json.loads(marker.read_text())
    report["metrics"]["errors"] = 1
    marker.write_text(json.dumps(report))
    assert played(toy_config(rounds=0), tmp_path / "other", [donor]) == {"alpha"}


def test_episodes_of_other_weights_under_the_same_name_are_played_anew(donor: Path, tmp_path: Path) -> None:
    initial = RunFolder(donor).server.global_adapter(0)
    adapter = load_adapter(initial)
    save_adapter(replace(adapter, meta=replace(adapter.meta, base_model="0" * 16)), initial)
    assert played(toy_config(rounds=0), tmp_path / "other", [donor]) == {"alpha"}
