"""What methods share: one site needs nobody, updates may restart, and a run may only evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.federation.run import run
from fedse.federation.strategies.averaging import average, server_step
from fedse.runs.layout import RunFolder
from helpers.toy_runs import fingerprint, toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy")

SITES = (toy_client("alpha"), toy_client("beta", options={"secret": "b"}))
STRATEGIES = ("mean", "weighted_mean", "isolated")
POOLED = tuple(site | {"site": "all"} for site in SITES)


def config_of(strategy: str, *sites: dict[str, Any], **changes: Any) -> RunConfig:
    method = {"strategy": strategy} | changes.pop("method", {})
    return toy_config(*(sites or SITES), method=method, **changes)


class TestOneSite:
    """With one site there is nothing to share: all strategies are that site's own evolution."""

    @pytest.mark.parametrize("training", [{"steps": 3}, {"steps": None, "epochs": 1.5}])
    def test_all_strategies_are_the_same(self, tmp_path: Path, training: dict[str, Any]) -> None:
        found = set()
        for strategy in STRATEGIES:
            result = run(config_of(strategy, toy_client("solo"), training=training), tmp_path / strategy)
            found.add((load_adapter(result.adapter).digest, str(result.after)))
        result = run(config_of("mean", toy_client("solo", site="all"), training=training), tmp_path / "named")
        found.add((load_adapter(result.adapter).digest, str(result.after)))
        assert len(found) == 1


class TestRestart:
    def test_updates_begin_from_the_initial_adapter_and_exploration_from_the_current_one(
        self, tmp_path: Path, local_updates: list[Any], explored: list[str]
    ) -> None:
        options = {"restart": True, "server_lr": 2.0}
        result = run(config_of("mean", rounds=3, method={"options": options}), tmp_path)
        adapters = [record.adapter for record in result.records]
        assert len(set(adapters)) == 4
        assert [start for start, _, _ in local_updates] == [adapters[0]] * 6
        assert explored == [adapter for adapter in adapters[:3] for _ in SITES]

    def test_the_server_steps_from_the_initial_adapter(self, tmp_path: Path) -> None:
        run(config_of("mean", method={"options": {"restart": True, "server_lr": 1.5}}), tmp_path)
        server = RunFolder(tmp_path).server
        mean = average((1.0, update(tmp_path, 2, site)) for site in ("alpha", "beta"))
        expected = server_step(load_adapter(server.global_adapter(0)), mean, 1.5)
        assert load_adapter(server.global_adapter(2)).digest == expected.digest

    @pytest.mark.parametrize(("strategy", "sites"), [("mean", POOLED), ("isolated", SITES)])
    def test_it_holds_for_every_way_of_sharing(
        self,
        tmp_path: Path,
        strategy: str,
        sites: tuple[dict[str, Any], ...],
        local_updates: list[Any],
        explored: list[str],
    ) -> None:
        result = run(config_of(strategy, *sites, method={"options": {"restart": True}}), tmp_path)
        assert {start for start, _, _ in local_updates} == {result.records[0].adapter}
        assert explored[:2] == [result.records[0].adapter] * 2
        first = result.records[1]
        assert explored[2:] == (list(first.adapters.values()) if strategy == "isolated" else [first.adapter] * 2)


class TestEvaluationOnly:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_without_rounds_the_initial_adapter_is_evaluated_and_nothing_else(
        self, tmp_path: Path, strategy: str
    ) -> None:
        result = run(config_of(strategy, rounds=0), tmp_path)
        [record] = result.records
        assert result.before == result.after == record.evaluation
        assert set(record.evaluation) == {"toy@alpha", "toy@beta"}
        assert record.clients == {"alpha": {}, "beta": {}}
        assert set(record.seconds) == {"evaluate"}
        assert record.transfer == {}
        assert result.adapter == tmp_path / "server/rounds/000/global"
        assert not list(tmp_path.rglob("experience.sqlite"))

    def test_it_is_round_0_of_the_run_with_rounds(self, tmp_path: Path) -> None:
        before = run(config_of("mean", rounds=0), tmp_path / "before").after
        assert run(config_of("mean", rounds=1), tmp_path / "whole").before == before

    def test_sites_need_nothing_to_learn_from(self, tmp_path: Path) -> None:
        site = toy_client("alpha", demonstrations=0, train_split="empty")
        assert run(config_of("mean", site, rounds=0), tmp_path).after["toy"].episodes == 4

    def test_a_finished_one_returns_at_once(self, tmp_path: Path) -> None:
        config = config_of("mean", rounds=0)
        run(config, tmp_path)
        before = fingerprint(tmp_path)
        run(config, tmp_path, resume=True)
        assert fingerprint(tmp_path) == before
