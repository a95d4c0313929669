"""A site with several environments: one update on all that was experienced there, as Centralized has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.experience.identity import task_and_actions
from fedse.experience.store import ExperienceStore
from fedse.federation.run import run
from fedse.learning.examples import Example
from fedse.learning.update import local_update
from fedse.models.lora import LoraModel
from fedse.progress import Phase
from fedse.runs.layout import RunFolder
from fedse.seeding import derive_seed
from fedse.settings import load_config
from fedse.sites.shared_model import SharedModel
from fedse.types import Trajectory
from helpers.toy_environment import ToyExpert, succeeds
from helpers.toy_runs import adapters, toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy")

SITES = (toy_client("alpha"), toy_client("beta", options={"secret": "b"}))


def pooled(*clients: dict[str, Any], **changes: Any) -> RunConfig:
    return toy_config(*(client | {"site": "all"} for client in clients or SITES), **changes)


def stored(config: RunConfig, folder: Path) -> list[Trajectory]:
    """All experience of a run, environment by environment."""
    found: list[Trajectory] = []
    for client in config.clients:
        with ExperienceStore(RunFolder(folder).environment(client).experience) as store:
            found += store.trajectories()
    return found


def test_one_update_learns_from_all_environments(tmp_path: Path, local_updates: list[Any]) -> None:
    result = run(pooled(), tmp_path)
    origin = {episode.tokens: (episode.client, episode.round) for episode in stored(pooled(), tmp_path)}
    assert len(local_updates) == 2
    for record, (start, examples, steps) in zip(result.records[1:], local_updates, strict=True):
        assert start == result.records[record.round - 1].adapter
        origins = {origin[example.tokens] for example in examples}
        assert {(name, 0) for name in ("alpha", "beta")} <= origins
        assert {made_in for _, made_in in origins} <= set(range(record.round + 1))
        kept = sum(
            record.clients[name]["explore"]["added"]
            for record in result.records[1 : record.round + 1]
            for name in ("alpha", "beta")
        )
        assert len(examples) == 6 + kept
        assert record.clients["all"]["train"]["examples"] == len(examples)
        assert steps == record.clients["all"]["train"]["steps"] == 4
        assert record.clients["all"]["outcome"] == "ok"
        assert set(record.clients["alpha"]) == set(record.clients["beta"]) == {"explore"}
        assert record.adapter == update(tmp_path, record.round, "all").digest
        assert set(record.evaluation) == {"toy@alpha", "toy@beta"}
        assert {"explore", "train", "aggregate", "evaluate"} == set(record.seconds)
    assert result.adapter == tmp_path / "server/rounds/002/global"


def test_it_is_what_training_once_on_all_experience_gives(tmp_path: Path) -> None:
    config = pooled(rounds=1)
    result = run(config, tmp_path)
    examples = [Example.of(episode) for episode in stored(config, tmp_path) if episode.turns]
    shared = SharedModel.load(config)
    lora: LoraModel = shared.lora
    lora.load(shared.initial_adapter(config))
    settings = config.training.model_copy(update={"steps": 4})
    seed = derive_seed(config.seed, "alpha+beta", 1, Phase.TRAIN.value)
    local_update(lora, examples, settings, seed=seed)
    assert lora.state().digest == result.records[1].adapter


def test_experience_stays_in_the_sites_own_folder(tmp_path: Path) -> None:
    config = pooled()
    run(config, tmp_path)
    assert [path.name for path in (tmp_path / "sites").iterdir()] == ["all"]
    stores = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("experience.sqlite"))
    assert stores == [f"sites/all/environments/{name}/experience.sqlite" for name in ("alpha", "beta")]
    for name in ("alpha", "beta"):
        with ExperienceStore(tmp_path / f"sites/all/environments/{name}/experience.sqlite") as store:
            assert {trajectory.client for trajectory in store.trajectories()} == {name}
    assert sorted(path.name for path in (tmp_path / "sites/all").iterdir()) == [
        "adapters",
        "environments",
        "phases",
        "received",
    ]


def test_it_takes_the_steps_that_the_environments_would_take(tmp_path: Path, local_updates: list[Any]) -> None:
    sites = [toy_client("a", demonstrations=5, steps=3), toy_client("b", options={"secret": "b"}, demonstrations=2)]
    for number, training in enumerate(({"steps": 2}, {"steps": None, "epochs": 2.0})):
        changes: dict[str, Any] = {"rounds": 1, "training": training, "method": {"explore": False}}
        apart = run(toy_config(*sites, **changes), tmp_path / f"apart{number}").records[1]
        local_updates.clear()
        run(pooled(*sites, **changes), tmp_path / f"pooled{number}")
        assert [steps for _, _, steps in local_updates] == [
            sum(apart.clients[name]["train"]["steps"] for name in ("a", "b"))
        ]


def test_an_episode_that_two_environments_found_counts_once(
    tmp_path: Path, local_updates: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(self: ToyExpert, _: str) -> tuple[str, str]:
        """Whatever the seed is."""
        return "", next(action for action in ("go", "go.", "go..") if succeeds(action, self._number))

    monkeypatch.setattr(ToyExpert, "act", act)
    client = {"demonstrations": 7, "episodes_per_round": 0}
    config = pooled(toy_client("a", **client), toy_client("b", **client), rounds=1)
    run(config, tmp_path)
    [(_, examples, _)] = local_updates
    found = stored(config, tmp_path)
    assert len(examples) == len({task_and_actions(episode) for episode in found}) == 7
    assert len(found) == 14


def test_the_order_of_environments_does_not_matter(tmp_path: Path) -> None:
    forth = run(pooled(*SITES), tmp_path / "forth")
    back = run(pooled(*reversed(SITES)), tmp_path / "back")
    assert [record.adapter for record in forth.records] == [record.adapter for record in back.records]


def test_sites_may_differ_in_how_many_they_have(tmp_path: Path) -> None:
    clients = [client | {"site": "both"} for client in SITES]
    config = toy_config(*clients, toy_client("gamma", options={"secret": "c"}), method={"strategy": "isolated"})
    record = run(config, tmp_path).records[-1]
    assert set(record.adapters) == {"both", "gamma"}
    assert set(record.evaluation) == {"toy@alpha", "toy@beta", "toy@gamma"}
    assert set(record.transfer) == {"both", "gamma"}
    assert all(set(rates) == set(record.evaluation) for rates in record.transfer.values())
    assert not [path for path in (tmp_path / "sites/both").rglob("*transfer*/*") if "gamma" not in path.name]


def test_a_site_may_have_the_name_of_one_of_its_environments(tmp_path: Path) -> None:
    clients = [toy_client("alpha"), toy_client("beta", site="alpha", options={"secret": "b"})]
    config = toy_config(*clients, rounds=1)
    record = run(config, tmp_path / "run").records[1]
    assert set(record.clients["alpha"]) == {"explore", "train", "outcome"}
    assert set(record.clients["beta"]) == {"explore"}
    renamed = pooled(rounds=1)
    run(renamed, tmp_path / "other")
    ours, theirs = (
        load_adapter(RunFolder(tmp_path / name).server.global_adapter(1)).digest for name in ("run", "other")
    )
    assert ours == theirs, "the name of a site decides nothing"


def test_the_method_centralized_is_one_such_site(tmp_path: Path) -> None:
    config = load_config("tiny", None, ["rounds=1"], method="centralized")
    assert set(config.sites) == {"all"}
    assert len(config.clients) > 1
    assert (config.method.explore, config.method.strategy) == (False, "mean")
    assert len(adapters(run(config, tmp_path).folder, config)) == 3
