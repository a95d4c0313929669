"""What every strategy that comes with fedse keeps to, whatever it computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from typer.testing import CliRunner

from fedse.adapters.algebra import factors_of, layers
from fedse.adapters.files import load_adapter
from fedse.adapters.parts import with_own_parts
from fedse.adapters.state import AdapterState
from fedse.cli.main import app
from fedse.config import RunConfig
from fedse.diagnostics.rounds import diagnose
from fedse.federation.run import run
from fedse.federation.server import Server, strategy_of
from fedse.federation.strategies import Updates, strategy_class
from fedse.federation.strategies.registry import GROUP
from fedse.messages import Purpose
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.plugins import installed
from fedse.progress import silent
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import load_state
from fedse.settings import method_names, read_method
from helpers.random_training import RandomSites, trained
from helpers.small_adapters import random_state
from helpers.toy_runs import fingerprint, interrupted, toy_client, toy_config

BUILTIN = sorted(
    name for name, points in installed(GROUP).items() if any(point.value.startswith("fedse.") for point in points)
)
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "multi_krum": {"hostile": 0},  # there are too few sites to guard against one
    "owned": {"own": 0.5, "moments": 4},
    "trimmed_mean": {"hostile": 0},
}
#: Those that make something else of equal updates, and what.
AMPLIFYING = {
    "cagrad": "up to 1 + c times as long",
    "dare": "some values dropped, the others larger",
    "fedadam": "every value moves by about the step",
    "fedavgm": "a step of 0.2 at first",
    "fedyogi": "every value moves by about the step",
    "iso": "all directions equally strong",
    "sum": "K times as long",
    "ties": "the largest values only",
}
every_strategy = pytest.mark.parametrize("name", BUILTIN)


def config_of(name: str, *sites: str, **changes: Any) -> RunConfig:
    """Two sites or more, of ranks 2 and 1 where the strategy serves such."""
    clients = [toy_client(site) for site in sites or ("alpha", "beta")]
    if strategy_class(name).mixed_ranks:
        clients[-1]["rank"] = 1
    method = {"strategy": name, "options": OPTIONS.get(name, {})}
    return toy_config(*clients, method=method, **changes)


def beginning() -> AdapterState:
    """As every run begins: B is zero."""
    start = random_state(0)
    return AdapterState({n: a * n.endswith("lora_A.weight") for n, a in start.tensors.items()}, start.meta)


def served(config: RunConfig, folder: Path, **sites: Any) -> RandomSites:
    runtime = RandomSites(beginning(), **sites)
    Server(config, ServerFolder(folder), runtime, listener=silent).run()
    return runtime


def computed(adapter: AdapterState) -> dict[str, np.ndarray]:
    """Layer → s·B A, or A where B is not there."""
    if not any(name.endswith("lora_B.weight") for name in adapter.tensors):
        return dict(adapter.tensors)
    return {layer: adapter.meta.scaling * b @ a for layer in layers(adapter) for b, a in [factors_of(adapter, layer)]}


@pytest.mark.parametrize("name", sorted(set(BUILTIN) - AMPLIFYING.keys()))
def test_where_all_sites_send_the_same_it_is_taken(name: str) -> None:
    strategy = strategy_of(toy_config(method={"strategy": name, "options": OPTIONS.get(name, {})}))
    sites = ("a", "b", "c")
    state = strategy.initial(beginning(), dict.fromkeys(sites, 2))
    sent = strategy.instruct(state, "a")
    update = trained(sent.base, sent.work, sent.adapter, 1)
    after = strategy.absorb(state, Updates.of(dict.fromkeys(sites, update)))
    whole = sent.work.trained.into(sent.adapter, update.adapter)
    for site in sites:
        found = computed(strategy.instruct(after, site).adapter)
        for layer, matrix in computed(whole).items():
            np.testing.assert_allclose(found[layer], matrix, rtol=1e-5, atol=1e-5 * np.abs(matrix).max())


@every_strategy
class TestServer:
    def test_the_order_of_replies_changes_no_bit(self, name: str, tmp_path: Path) -> None:
        config = config_of(name, "a", "b", "c", rounds=3)
        served(config, tmp_path / "as_asked")
        served(config, tmp_path / "backwards", backwards=True)
        for number in range(4):
            one, other = (load_state(ServerFolder(tmp_path / way), number) for way in ("as_asked", "backwards"))
            assert {key: adapter.digest for key, adapter in one.adapters.items()} == {
                key: adapter.digest for key, adapter in other.adapters.items()
            }
            assert (one.numbers, one.arrays.keys()) == (other.numbers, other.arrays.keys())
            assert all(array.tobytes() == other.arrays[key].tobytes() for key, array in one.arrays.items())

    def test_a_site_may_join_late_and_another_stay_away(self, name: str, tmp_path: Path) -> None:
        config = config_of(name, "a", "b", "c", rounds=4, exchange={"deadline": 60.0})
        runtime = served(config, tmp_path, away={"c": 2}, out=frozenset({(3, "b")}))
        told = [
            {site: seen["outcome"] for site, seen in record.clients.items()}
            for record in read_records(ServerFolder(tmp_path))[1:]
        ]
        assert [outcome["c"] for outcome in told] == ["absent", "ok", "ok", "ok"]
        assert [outcome["b"] for outcome in told] == ["ok", "ok", "missing", "ok"]
        strategy = strategy_of(config)
        asked = {(one.round, one.site): one for one in runtime.asked if one.purpose is Purpose.ROUND}
        assert asked.keys() == {(n, site) for n in range(1, 5) for site in "abc"} - {(1, "c")}
        for (number, site), instruction in asked.items():
            sent = strategy.instruct(load_state(ServerFolder(tmp_path), number - 1), site)
            assert instruction.base is not None
            assert instruction.base.digest == sent.base.digest
            assert instruction.work == sent.work


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_distribution: Path) -> dict[str, Path]:
    """Strategy → an uninterrupted run of three rounds, made when it is first asked for."""

    class Made(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            with pytest.MonkeyPatch.context() as patch:
                patch.syspath_prepend(str(toy_distribution))
                folder = tmp_path_factory.mktemp("runs") / name
                self[name] = run(config_of(name, rounds=3), folder).folder
            return self[name]

    return Made()


@every_strategy
@pytest.mark.usefixtures("toy", "without_flushing", "warm_workers")
class TestRuns:
    def test_interrupted_and_resumed_it_ends_with_the_same_bytes(
        self, name: str, finished: dict[str, Path], tmp_path: Path
    ) -> None:
        config = config_of(name, rounds=3)
        assert interrupted(config, tmp_path / "run", after=48)
        run(config, tmp_path / "run", resume=True)
        assert fingerprint(tmp_path / "run") == fingerprint(finished[name])

    def test_it_is_diagnosed(self, name: str, finished: dict[str, Path]) -> None:
        rounds = diagnose(finished[name])
        assert [one.round for one in rounds] == [1, 2, 3]
        cls = strategy_class(name)
        compared = name == "private" or not (cls.personal or cls.mixed_ranks)
        for one in rounds:
            assert one.clients == (("alpha", "beta") if compared else ())
            assert not compared or 0 < one.conflicts["AB"].dilution <= 1 + 1e-9

    @pytest.mark.long
    def test_workers_change_no_result(
        self, name: str, finished: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        run(config_of(name, rounds=3, workers=2), tmp_path / "run")
        ours, theirs = fingerprint(tmp_path / "run"), fingerprint(finished[name])
        assert ours.pop("server/config.yaml") != theirs.pop("server/config.yaml")
        assert ours == theirs

    def test_what_is_exported_computes_the_same_in_peft(
        self, name: str, finished: dict[str, Path], tmp_path: Path
    ) -> None:
        own = ["--client", "alpha"] if strategy_class(name).personal else []
        done = CliRunner().invoke(app, ["export", str(finished[name]), "--out", str(tmp_path / "out"), *own])
        assert done.exit_code == 0, done.output
        config = config_of(name)
        loaded = peft.PeftModel.from_pretrained(load_base(config.model).model, tmp_path / "out")
        lora = LoraModel(load_base(config.model), config.lora)
        bare = logits(load_base(config.model).model)
        lora.load(played(finished[name], name))
        torch.testing.assert_close(logits(loaded), logits(lora.base.model))
        assert (logits(loaded) - bare).abs().max() > 1e-4, "the adapter has an effect"


def played(folder: Path, name: str) -> AdapterState:
    """What alpha was evaluated with at the end, from the server's state and the site's folder."""
    sent = strategy_of(config_of(name)).instruct(load_state(RunFolder(folder).server, 3), "alpha")
    own = load_adapter(RunFolder(folder).site("alpha").adapter(3))  # alpha has what it was not sent
    return with_own_parts(sent.adapter, own, sent.work.private)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(40)[None] * 6, use_cache=False).logits.float()
    return found


class TestDocs:
    """docs/strategies.md."""

    def rows(self) -> dict[str, dict[str, str]]:
        """Strategy → heading → cell, of the table of all strategies."""
        text = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
        table = "| strategy |" + text.partition("\n| strategy |")[2].partition("\n\n")[0]
        headings, _, *found = [line.strip("| ").split(" | ") for line in table.splitlines()]
        return {row[0].strip("`"): dict(zip(headings, row, strict=True)) for row in found}

    def test_the_table_has_every_strategy(self) -> None:
        assert sorted(self.rows()) == BUILTIN

    @every_strategy
    def test_it_says_what_the_strategy_declares(self, name: str) -> None:
        cls, row = strategy_class(name), self.rows()[name]
        assert row["one adapter for all"] == ("no" if cls.personal else "yes")
        assert row["mixed ranks"] == ("yes" if cls.mixed_ranks else "no")
        assert (row["earlier updates"] == "no") == (not cls.memory)
        assert ("examples" in row["sent up"]) == ("examples" in cls.needs)
        assert cls.citation

    def test_every_strategy_that_is_no_part_of_another_method_has_one_by_its_name(self) -> None:
        made = {read_method(method).set.get("method", {}).get("strategy") for method in method_names()}
        assert set(BUILTIN) <= made
