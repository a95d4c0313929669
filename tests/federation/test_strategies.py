"""Strategies that keep something from round to round, at the server or at the sites, or serve different ranks.

What every built-in strategy keeps to is in test_builtin_strategies.py.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.adapters.files import load_adapter
from fedse.adapters.parts import Trained, resized
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterState
from fedse.config import RunConfig
from fedse.errors import RunError
from fedse.federation.run import run
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.messages import Purpose, Update
from fedse.models.lora import LoraModel
from fedse.results.reading import read_run
from fedse.rollout.torch.player import TorchPlayer
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import load_state
from fedse.settings import dump_config
from fedse.sites.environment import SiteEnvironment
from helpers.runtimes import Recorded, opened
from helpers.subprocesses import HELPERS, environment
from helpers.toy_runs import fingerprint, interrupted, toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy", "without_flushing")

OWN = ("fedavgm", "fedsa", "hetlora", "private")


def config_of(strategy: str, **changes: Any) -> RunConfig:
    """Three rounds of two sites, of ranks 4 and 8 where the strategy serves such."""
    ranks: dict[str, Any] = {}
    clients = [toy_client("alpha"), toy_client("beta", options={"secret": "b"})]
    if strategy == "hetlora":
        ranks = {"lora": {"rank": 8, "alpha": 16.0}}
        clients[0]["rank"] = 4
    return toy_config(*clients, method={"strategy": strategy}, **({"rounds": 3} | ranks | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_distribution: Path) -> dict[str, Path]:
    """Strategy → an uninterrupted run."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(toy_distribution))
        return {strategy: run(config_of(strategy), root / strategy).folder for strategy in OWN}


@pytest.mark.parametrize("strategy", OWN)
class TestAll:
    @pytest.mark.parametrize("after", [24, 48, 66])
    def test_interrupted_and_resumed_it_ends_with_the_same_bytes(
        self, strategy: str, after: int, finished: dict[str, Path], tmp_path: Path
    ) -> None:
        config = config_of(strategy)
        assert interrupted(config, tmp_path / "run", after=after)
        run(config, tmp_path / "run", resume=True)
        assert fingerprint(tmp_path / "run") == fingerprint(finished[strategy])

    @pytest.mark.long
    def test_killed_and_resumed_it_ends_with_the_same_bytes(
        self, strategy: str, finished: dict[str, Path], toy_distribution: Path, tmp_path: Path
    ) -> None:
        file, killed = tmp_path / "config.yaml", tmp_path / "killed"
        file.write_text(dump_config(config_of(strategy)))
        script = [sys.executable, HELPERS / "killed_run.py", file, tmp_path / "whole", killed, "0"]
        variables = environment(toy_distribution, OMP_NUM_THREADS="1")
        done = subprocess.run(script, env=variables, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 3
        assert fingerprint(killed) == fingerprint(tmp_path / "whole") == fingerprint(finished[strategy])

    def test_every_round_moves_the_adapter(self, strategy: str, finished: dict[str, Path]) -> None:
        states = [load_state(RunFolder(finished[strategy]).server, number) for number in range(4)]
        assert len({state.adapter().digest for state in states}) == 4


class TestMomentum:
    def test_its_state_lies_with_every_round(self, finished: dict[str, Path]) -> None:
        server = RunFolder(finished["fedavgm"]).server
        states = [load_state(server, number) for number in range(4)]
        for before, after in itertools.pairwise(states):
            for name, array in after.adapter().tensors.items():
                momentum = after.arrays[f"momentum/{name}"]
                assert array == pytest.approx(before.adapter().tensors[name] + 0.2 * momentum, abs=1e-6)

    def test_it_remembers_the_rounds_before(self, finished: dict[str, Path]) -> None:
        server = RunFolder(finished["fedavgm"]).server
        first, second = load_state(server, 1), load_state(server, 2)
        sent = [update(finished["fedavgm"], 2, site) for site in ("alpha", "beta")]
        for name, tensor in first.adapter().tensors.items():
            change = np.mean([adapter.tensors[name].astype(np.float64) for adapter in sent], axis=0) - tensor
            before, after = (state.arrays[f"momentum/{name}"] for state in (first, second))
            assert after == pytest.approx(0.9 * before + change, rel=1e-4, abs=1e-6)

    def test_another_option_makes_another_run(self, finished: dict[str, Path], tmp_path: Path) -> None:
        changed = config_of("fedavgm", rounds=2)
        method = changed.method.model_copy(update={"options": {"beta": 0.0, "server_lr": 1.0}})
        run(changed.model_copy(update={"method": method}), tmp_path)
        plain = run(config_of("mean", rounds=2), tmp_path / "mean")
        ours = load_state(RunFolder(tmp_path).server, 2).adapter()
        for name, array in load_adapter(plain.adapter).tensors.items():
            assert ours.tensors[name] == pytest.approx(array, rel=1e-4, abs=1e-6), "without momentum it is the mean"


_Seen = tuple[Path, Recorded, list[tuple[str, int, str, AdapterState]]]


@pytest.fixture(scope="module", params=["fedsa", "private"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, toy_distribution: Path) -> _Seen:
    """A run, what passed its runtime, and (environment, round, whose adapter, adapter) of all evaluations."""
    folder = tmp_path_factory.mktemp("private")
    runtimes: list[Recorded] = []
    played: list[tuple[str, int, str, AdapterState]] = []
    evaluate = SiteEnvironment.evaluate

    def recording(host: Any) -> Recorded:
        runtimes.append(Recorded(ProcessRuntime(host)))
        return runtimes[-1]

    def watched(self: SiteEnvironment, number: int, adapter: AdapterState, *, owner: str = "") -> Any:
        played.append((self.name, number, owner, adapter))
        return evaluate(self, number, adapter, owner=owner)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(toy_distribution))
        patch.setattr("fedse.federation.run.ProcessRuntime", recording)
        patch.setattr(SiteEnvironment, "evaluate", watched)
        run(config_of(request.param), folder / request.param)
    [runtime] = runtimes
    return folder / request.param, runtime, played


def shared_part(folder: Path) -> Trained:
    """What sites send: A of fedsa, and the first of the two components of private."""
    return Trained(("A",)) if folder.name == "fedsa" else Trained(ranks=(0,))


class TestPrivateParts:
    """Parts of an adapter that stay at the sites: B with fedsa, components with private."""

    def own(self, folder: Path, site: str, number: int) -> AdapterState:
        return load_adapter(RunFolder(folder).site(site).adapter(number))

    def private(self, folder: Path, adapter: AdapterState) -> dict[str, np.ndarray]:
        part = Trained(("B",)) if folder.name == "fedsa" else Trained(ranks=(1,))
        return dict(part.of(adapter).tensors)

    def test_none_leaves_a_site(self, recorded: _Seen) -> None:
        folder, runtime, _ = recorded
        updates = [(told, told.answer) for _, told in opened(runtime.sent) if isinstance(told.answer, Update)]
        rounds = [(told, answer) for told, answer in updates if told.purpose is Purpose.ROUND]
        assert len(rounds) == 6
        for told, answer in rounds:
            assert answer.tensors == {}
            if told.round > 1:  # the last two are kept
                own = self.own(folder, told.site, told.round)
                assert answer.adapter.digest == shared_part(folder).of(own).digest

    def test_every_site_has_another_and_goes_on_from_it(self, recorded: _Seen) -> None:
        folder, _, _ = recorded
        alpha, beta = (self.private(folder, self.own(folder, site, 3)) for site in ("alpha", "beta"))
        before = self.private(folder, self.own(folder, "alpha", 2))
        for name, array in alpha.items():
            if not name.endswith(SUFFIX_A):
                assert array.any()
            assert (array != beta[name]).any()
            assert np.abs(array - before[name]).max() < 0.5 * np.abs(array).max()

    def test_each_is_evaluated_with_its_own_and_what_is_common(self, recorded: _Seen) -> None:
        folder, _, played = recorded
        for number in (2, 3):
            common = load_state(RunFolder(folder).server, number).adapter()
            for site in ("alpha", "beta"):
                [adapter] = [adapter for *told, adapter in played if told == [site, number, ""]]
                own = self.own(folder, site, number)
                part = shared_part(folder)
                assert adapter.digest == part.into(own, part.of(common)).digest

    def test_where_the_global_adapter_has_components_for_it_it_is_evaluated_alone_too(self, recorded: _Seen) -> None:
        folder, _, played = recorded
        alone = [(name, number, adapter) for name, number, owner, adapter in played if owner]
        common = load_state(RunFolder(folder).server, 3).adapter()
        [*_, last] = read_records(RunFolder(folder).server)
        if folder.name == "fedsa":
            assert not alone
            assert last.transfer == {}
            return
        assert [(name, number) for name, number, _ in alone] == [("alpha", 3), ("beta", 3)]
        assert {adapter.digest for *_, adapter in alone} == {common.digest}
        assert not any(array.any() for name, array in self.private(folder, common).items() if name.endswith(SUFFIX_B))
        assert list(last.transfer) == ["_global"]
        assert set(last.transfer["_global"]) == set(last.evaluation)


@pytest.mark.parametrize("name", ["fedsa", "private"])
def test_readers_have_the_whole_adapter_of_a_site_as_long_as_the_site_keeps_it(
    finished: dict[str, Path], name: str
) -> None:
    folder = finished[name]
    found = read_run(folder).adapter(3, "alpha")
    common, own = load_state(RunFolder(folder).server, 3).adapter(), RunFolder(folder).site("alpha").adapter(3)
    part = shared_part(folder)
    assert found.digest == part.into(load_adapter(own), part.of(common)).digest
    with pytest.raises(RunError, match="parts of an adapter to itself, and those of round 1"):
        read_run(folder).adapter(1, "alpha")


def test_sites_with_the_same_tasks_are_evaluated_each_with_its_own_b(tmp_path: Path) -> None:
    sites = [toy_client("alpha"), toy_client("beta")]
    result = run(toy_config(*sites, rounds=1, method={"strategy": "fedsa"}), tmp_path)
    assert set(result.after) == {"toy@alpha", "toy@beta"}
    assert result.records[1].adapter == load_state(RunFolder(tmp_path).server, 1).adapter().digest
    assert result.records[1].transfer == {}, "no site has the B of another"


class TestHetLora:
    def test_every_site_trains_and_sends_its_own_rank(self, finished: dict[str, Path]) -> None:
        for number in (1, 2, 3):
            alpha, beta = (update(finished["hetlora"], number, site).meta for site in ("alpha", "beta"))
            assert (alpha.rank, alpha.alpha, beta.rank, beta.alpha) == (4, 8.0, 8, 16.0)

    def test_the_small_one_moves_its_components_alone(self, finished: dict[str, Path]) -> None:
        server = RunFolder(finished["hetlora"]).server
        alpha, beta = (update(finished["hetlora"], 1, site) for site in ("alpha", "beta"))
        after = load_state(server, 1).adapter()
        alone, common = Trained(ranks=(4, 5, 6, 7)), Trained(ranks=(0, 1, 2, 3))
        assert alone.of(after).digest == alone.of(beta).digest
        for name, array in common.of(after).tensors.items():
            both = np.stack([resized(sent, 4).tensors[name] for sent in (alpha, beta)])
            assert (array >= both.min(axis=0) - 1e-6).all()
            assert (array <= both.max(axis=0) + 1e-6).all()
            assert not any((array == one).all() for one in both)

    def test_each_site_plays_with_its_own_rank(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ranks: list[tuple[str, int]] = []
        play = TorchPlayer.play

        def watched(self: TorchPlayer, adapter: Any, plays: Any) -> Any:
            found = play(self, adapter, plays)
            lora: LoraModel = self._lora
            ranks.extend((trajectory.client, lora.meta.rank) for trajectory in itertools.chain(*found))
            assert {layer.scaling["default"] for layer in lora.layers.values()} == {2.0}
            return found

        monkeypatch.setattr(TorchPlayer, "play", watched)
        run(config_of("hetlora", rounds=1), tmp_path)
        assert {rank for _, rank in ranks} == {4, 8}
