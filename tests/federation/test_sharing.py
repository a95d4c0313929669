"""Federated, pooled and isolated sites, restarts, and runs that only evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig, Sharing
from fedse.errors import RunError
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.aggregation import mean, server_step
from fedse.federation.run import run
from fedse.learning.update import local_update
from fedse.messages.update import ClientUpdate
from fedse.models.lora import LoraModel
from fedse.runs.folder import read_records
from fedse.runs.layout import RunLayout
from fedse.types import Trajectory
from helpers.toy_runs import fingerprint, toy_client, toy_config

pytestmark = pytest.mark.usefixtures("toy")

SITES = (toy_client("alpha"), toy_client("beta", options={"secret": "b"}))
SHARINGS: tuple[Sharing, ...] = ("federated", "pooled", "isolated")

#: What a local update was given: the digest of its start, its examples and its steps.
Update = tuple[str, list[Trajectory], int | None]


def sharing_config(sharing: Sharing, *sites: dict[str, Any], **changes: Any) -> RunConfig:
    method = {"sharing": sharing} | changes.pop("method", {})
    return toy_config(*(sites or SITES), method=method, **changes)


def digest(folder: Path) -> str:
    return load_adapter(folder).digest


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """All local updates, as they are made."""
    found: list[Update] = []

    def watched(lora: LoraModel, examples: Sequence[Trajectory], settings: Any, **options: Any) -> Any:
        found.append((lora.state().digest, list(examples), settings.steps))
        return local_update(lora, examples, settings, **options)

    monkeypatch.setattr("fedse.sites.training.local_update", watched)
    return found


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the adapters that explored, in order."""
    found: list[str] = []

    def watching(work: Callable[..., Any]) -> Callable[..., Any]:
        def play(self: Any, round: int, adapter: Any) -> Any:
            found.append(adapter.digest)
            return work(self, round, adapter)

        return play

    from fedse.sites.site import Client

    monkeypatch.setattr(Client, "_play", watching(Client._play))
    return found


class TestOneSite:
    """With one site there is nothing to share: all three ways are that site's own evolution."""

    @pytest.mark.parametrize("training", [{"steps": 3}, {"steps": None, "epochs": 1.5}])
    def test_all_ways_of_sharing_are_the_same(self, tmp_path: Path, training: dict[str, Any]) -> None:
        found = {}
        for sharing in SHARINGS:
            result = run(sharing_config(sharing, toy_client("solo"), training=training), tmp_path / sharing)
            found[sharing] = (digest(result.adapter), result.after)
        assert found["pooled"] == found["isolated"] == found["federated"]


class TestIsolated:
    def test_a_site_is_what_it_would_be_alone(self, tmp_path: Path) -> None:
        run(sharing_config("isolated"), tmp_path / "together")
        for site in SITES:
            alone = tmp_path / site["name"]
            run(sharing_config("isolated", site), alone)
            for round in (1, 2):
                ours, theirs = (
                    RunLayout(folder).update(round, site["name"]) for folder in (tmp_path / "together", alone)
                )
                assert digest(ours) == digest(theirs)

    def test_no_adapter_is_global_after_the_start(self, tmp_path: Path) -> None:
        result = run(sharing_config("isolated"), tmp_path)
        assert [path.parent.name for path in tmp_path.glob("rounds/*/global")] == ["000"]
        assert result.adapters == {name: tmp_path / "rounds/002/clients" / name for name in ("alpha", "beta")}
        with pytest.raises(RunError, match="isolated: there is no global adapter"):
            _ = result.adapter
        for record in result.records[1:]:
            folder = tmp_path / f"rounds/{record.round:03d}/clients"
            assert record.adapter == ""
            assert record.adapters == {name: digest(folder / name) for name in ("alpha", "beta")}
            assert all("outcome" not in metrics for metrics in record.clients.values())

    def test_each_site_is_evaluated_with_its_own_adapter(self, tmp_path: Path) -> None:
        run(sharing_config("isolated", evaluation={"decoding": "sampled", "samples": 8}), tmp_path / "together")
        [record] = read_records(RunLayout(tmp_path / "together"))[2:]
        assert set(record.evaluation) == {"toy@alpha", "toy@beta"}
        for site in SITES:
            alone = run(
                sharing_config("isolated", site, evaluation={"decoding": "sampled", "samples": 8}),
                tmp_path / site["name"],
            )
            assert record.evaluation[f"toy@{site['name']}"] == alone.after["toy"]

    def test_in_the_end_each_adapter_visits_all_other_sites(self, tmp_path: Path) -> None:
        result = run(sharing_config("isolated", toy_client("gamma", options={"secret": "c"}), *SITES), tmp_path)
        assert all(record.transfer == {} for record in result.records[:-1])
        last = result.records[-1]
        names = ["alpha", "beta", "gamma"]
        assert {owner: list(rates) for owner, rates in last.transfer.items()} == {
            name: [f"toy@{host}" for host in names] for name in names
        }
        layout = RunLayout(tmp_path)
        for owner in names:
            for host in names:
                rate = last.transfer[owner][f"toy@{host}"]
                own = owner == host
                path = layout.evaluation(host, 2) if own else layout.transfer(host, 2, owner)
                episodes = read_trajectories(path)
                assert (rate.episodes, rate.successes) == (4, sum(bool(episode.success) for episode in episodes))
                assert not own or rate == last.evaluation[f"toy@{host}"]
        assert read_records(layout) == result.records

    def test_another_sites_adapter_is_really_the_one_that_plays(self, tmp_path: Path) -> None:
        """Both sites have the same tasks, so a visitor does as at home."""
        sites = [toy_client("alpha"), toy_client("beta")]
        last = run(sharing_config("isolated", *sites, rounds=1, training={"learning_rate": 0.5}), tmp_path).records[-1]
        layout = RunLayout(tmp_path)
        texts = {
            path: [[turn.response for turn in episode.turns] for episode in read_trajectories(path)]
            for path in (
                layout.evaluation("alpha", 1),
                layout.evaluation("beta", 1),
                layout.transfer("alpha", 1, "beta"),
                layout.transfer("beta", 1, "alpha"),
            )
        }
        alpha, beta, beta_at_alpha, alpha_at_beta = texts.values()
        assert alpha != beta
        assert (alpha_at_beta, beta_at_alpha) == (alpha, beta)
        assert last.seconds["evaluate"] > 0


class TestPooled:
    def test_one_update_learns_from_all_sites(self, tmp_path: Path, updates: list[Update]) -> None:
        result = run(sharing_config("pooled"), tmp_path)
        assert len(updates) == 2
        for record, (start, examples, steps) in zip(result.records[1:], updates, strict=True):
            assert start == result.records[record.round - 1].adapter
            origins = {(example.client, example.round) for example in examples}
            assert {(site, 0) for site in ("alpha", "beta")} <= origins
            assert {made_in for _, made_in in origins} <= set(range(record.round + 1))
            stored = sum(
                record.clients[name]["explore"]["added"]
                for record in result.records[1 : record.round + 1]
                for name in ("alpha", "beta")
            )
            assert len(examples) == 6 + stored
            assert record.pooled["examples"] == len(examples)
            assert steps == record.pooled["steps"] == 4
            assert set(record.clients["alpha"]) == {"explore"}
            assert record.adapter == digest(tmp_path / f"rounds/{record.round:03d}/global")
            assert {"explore", "train", "evaluate"} == set(record.seconds)
        assert not list(tmp_path.glob("rounds/*/clients"))
        assert result.adapter == tmp_path / "rounds/002/global"

    def test_it_takes_the_steps_that_the_sites_would_take(self, tmp_path: Path, updates: list[Update]) -> None:
        sites = [toy_client("a", demonstrations=5, steps=3), toy_client("b", options={"secret": "b"}, demonstrations=2)]
        for number, training in enumerate(({"steps": 2}, {"steps": None, "epochs": 2.0})):
            method = {"explore": False}
            for sharing in ("federated", "pooled"):
                updates.clear()
                config = sharing_config(sharing, *sites, rounds=1, training=training, method=method)
                records = run(config, tmp_path / f"{sharing}{number}").records
                if sharing == "federated":
                    expected = sum(records[1].clients[name]["train"]["steps"] for name in ("a", "b"))
            assert [steps for _, _, steps in updates] == [expected]

    def test_an_episode_that_two_sites_found_counts_once(self, tmp_path: Path, updates: list[Update]) -> None:
        site = {"demonstrations": 7, "episodes_per_round": 0}
        run(sharing_config("pooled", toy_client("a", **site), toy_client("b", **site), rounds=1), tmp_path)
        [(_, examples, _)] = updates
        keys = [example.key for example in examples]
        assert len(keys) == len(set(keys))

    def test_the_order_of_sites_does_not_matter(self, tmp_path: Path) -> None:
        forth = run(sharing_config("pooled", *SITES), tmp_path / "forth")
        back = run(sharing_config("pooled", *reversed(SITES)), tmp_path / "back")
        assert [record.adapter for record in forth.records] == [record.adapter for record in back.records]


class TestRestart:
    def test_updates_begin_from_the_initial_adapter_and_exploration_from_the_current_one(
        self, tmp_path: Path, updates: list[Update], loaded: list[str]
    ) -> None:
        result = run(sharing_config("federated", rounds=3, method={"restart": True, "server_lr": 2.0}), tmp_path)
        adapters = [record.adapter for record in result.records]
        assert len(set(adapters)) == 4
        assert [start for start, _, _ in updates] == [adapters[0]] * 6
        assert loaded == [adapter for adapter in adapters[:3] for _ in SITES]

    def test_the_server_steps_from_the_initial_adapter(self, tmp_path: Path) -> None:
        run(sharing_config("federated", method={"restart": True, "server_lr": 1.5}), tmp_path)
        layout = RunLayout(tmp_path)
        initial = load_adapter(layout.global_adapter(0))
        sent = [ClientUpdate(name, 2, load_adapter(layout.update(2, name))) for name in ("alpha", "beta")]
        assert digest(layout.global_adapter(2)) == server_step(initial, mean(initial, sent), 1.5).digest

    @pytest.mark.parametrize("sharing", ["pooled", "isolated"])
    def test_it_holds_for_every_way_of_sharing(
        self, tmp_path: Path, sharing: Sharing, updates: list[Update], loaded: list[str]
    ) -> None:
        result = run(sharing_config(sharing, method={"restart": True}), tmp_path)
        assert {start for start, _, _ in updates} == {result.records[0].adapter}
        assert loaded[:2] == [result.records[0].adapter] * 2
        first = result.records[1]
        assert loaded[2:] == (list(first.adapters.values()) if sharing == "isolated" else [first.adapter] * 2)


class TestEvaluationOnly:
    @pytest.mark.parametrize("sharing", SHARINGS)
    def test_without_rounds_the_initial_adapter_is_evaluated_and_nothing_else(
        self, tmp_path: Path, sharing: Sharing
    ) -> None:
        result = run(sharing_config(sharing, rounds=0), tmp_path)
        [record] = result.records
        assert result.before == result.after == record.evaluation
        assert set(record.evaluation) == {"toy@alpha", "toy@beta"}
        assert record.clients == {"alpha": {}, "beta": {}}
        assert set(record.seconds) == {"evaluate"}
        assert record.transfer == {}
        assert result.adapter == tmp_path / "rounds/000/global"
        assert not list(tmp_path.glob("clients/*/experience.sqlite"))

    def test_it_is_round_0_of_the_run_with_rounds(self, tmp_path: Path) -> None:
        before = run(sharing_config("federated", rounds=0), tmp_path / "before").after
        assert run(sharing_config("federated", rounds=1), tmp_path / "whole").before == before

    def test_sites_need_nothing_to_learn_from(self, tmp_path: Path) -> None:
        site = toy_client("alpha", demonstrations=0, train_split="empty")
        assert run(sharing_config("federated", site, rounds=0), tmp_path).after["toy"].episodes == 4

    def test_a_finished_one_returns_at_once(self, tmp_path: Path) -> None:
        config = sharing_config("federated", rounds=0)
        run(config, tmp_path)
        before = fingerprint(tmp_path)
        run(config, tmp_path, resume=True)
        assert fingerprint(tmp_path) == before
