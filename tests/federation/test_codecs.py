"""Federations whose adapters cross as changes: server and sites have the same bits, whatever is lost on the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.adapters.codec import unpack
from fedse.adapters.deltas import CODECS
from fedse.adapters.files import load_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.federation.run import run
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.federation.server import Server, strategy_of
from fedse.messages import Instruction, Purpose
from fedse.progress import silent
from fedse.runs.folder import open_server
from fedse.runs.layout import RunFolder
from fedse.runs.rounds import load_exchange, load_state, traffic
from fedse.settings import dump_config
from fedse.sites.host import SiteHost
from fedse.types import CodecName
from helpers.runtimes import Answers, Recorded, opened
from helpers.subprocesses import HELPERS, environment
from helpers.toy_runs import adapters, fingerprint, interrupted, toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy", "without_flushing")


def config_of(codec: CodecName, **changes: Any) -> RunConfig:
    """Three rounds of two sites, both of which are evaluated after each."""
    clients = [toy_client("alpha"), toy_client("beta", options={"secret": "b"})]
    return toy_config(*clients, exchange={"codec": codec}, **({"rounds": 3} | changes))


@dataclass
class Tampered(Runtime):
    """Takes what sites keep of their adapters away before a round.

    Attributes:
        runtime: does the work.
        lost: (site, round) → what is removed of its folder.
        folder: of the run.
    """

    runtime: Runtime
    folder: RunFolder
    lost: Sequence[tuple[str, int]]
    done: set[tuple[str, int]] = field(default_factory=set)

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        return self.runtime.ask(map(self._passed, instructions), deadline=deadline)

    def _passed(self, instruction: tuple[str, bytes]) -> tuple[str, bytes]:
        site, data = instruction
        outline = Instruction.outline(data)
        key = site, outline.round
        if outline.purpose is Purpose.ROUND and key in {*self.lost} - self.done:
            self.done.add(key)
            shutil.rmtree(self.folder.site(site).received)
        return instruction


def served(config: RunConfig, folder: Path, lost: Sequence[tuple[str, int]] = ()) -> Recorded:
    """A run, and all that passed; some sites lose what they have received, as if they were new."""
    root = RunFolder(folder)
    # A process for every round, so that nothing is remembered but what lies on disk.
    runtime = Recorded(Tampered(_Forgetful(config, root), root, lost))
    with open_server(config, root.server, resume=False, software=dict):
        Server(config, root.server, runtime, listener=silent).run()
    return runtime


class _Forgetful(Runtime):
    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._host = SiteHost(config, folder, listener=silent)
        self._make = {name: channel._initial for name, channel in self._host._channels.items()}

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        for channel in self._host._channels.values():
            channel._last = None
        return ProcessRuntime(self._host).ask(instructions)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, toy_distribution: Path
) -> dict[CodecName, tuple[Path, Recorded]]:
    """Codec → an uninterrupted run, and all that passed."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(toy_distribution))
        return {codec: (root / codec, served(config_of(codec), root / codec)) for codec in CODECS}


Finished = dict[CodecName, tuple[Path, Recorded]]


@pytest.mark.parametrize("codec", CODECS)
class TestAll:
    def test_sites_play_with_what_the_server_has_bit_for_bit(self, codec: CodecName, finished: Finished) -> None:
        folder, runtime = finished[codec]
        played = [asked for asked, _ in opened(runtime.sent) if asked.adapter is not None]
        assert len(played) == 2 * (3 + 4)
        for asked in played:
            after = asked.round - (asked.purpose is Purpose.ROUND)
            assert asked.adapter is not None
            assert asked.adapter.digest == load_state(RunFolder(folder).server, after).adapter().digest

    def test_no_adapter_crosses_twice(self, codec: CodecName, finished: Finished) -> None:
        """A round begins with what was evaluated before it."""
        _, runtime = finished[codec]
        for _, data, _ in runtime.sent:
            asked, crossed = Instruction.outline(data), unpack(data)[1]
            assert bool(crossed) == (asked.purpose is Purpose.EVALUATE and asked.round > 0)

    @pytest.mark.parametrize("after", [30, 50, 66])
    def test_interrupted_and_resumed_it_is_the_uninterrupted_run(
        self, codec: CodecName, after: int, finished: Finished, tmp_path: Path
    ) -> None:
        config = config_of(codec)
        assert interrupted(config, tmp_path, after=after)
        run(config, tmp_path, resume=True)
        mine, whole = fingerprint(tmp_path), fingerprint(finished[codec][0])
        assert mine.pop("server/versions.json") != whole.pop("server/versions.json", "")
        assert mine == whole

    def test_a_site_that_lost_its_adapters_gets_the_same_one_whole(
        self, codec: CodecName, finished: Finished, tmp_path: Path
    ) -> None:
        runtime = served(config_of(codec), tmp_path, lost=[("alpha", 2), ("beta", 3)])
        assert adapters(tmp_path, config_of(codec)) == adapters(finished[codec][0], config_of(codec))
        refused = [
            (reply.site, reply.round) for _, reply in opened_with_refusals(runtime) if reply.answer.kind == "refused"
        ]
        assert refused == [("alpha", 2), ("beta", 3)]
        plain, whole = (traffic(RunFolder(folder).server, 2) for folder in (finished[codec][0], tmp_path))
        size = load_state(RunFolder(tmp_path).server, 1).adapter().nbytes
        assert whole["alpha"][0] > plain["alpha"][0] + size
        assert whole["beta"][0] == plain["beta"][0]

    def test_workers_change_no_bit(
        self, codec: CodecName, tmp_path: Path, warm_workers: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        for workers in (1, 2):
            run(config_of(codec, rounds=2, workers=workers), tmp_path / str(workers))
        ours, theirs = (fingerprint(tmp_path / str(workers)) for workers in (1, 2))
        assert ours.pop("server/config.yaml") != theirs.pop("server/config.yaml")
        assert ours == theirs

    def test_the_adapters_come_to_nearly_the_same(self, codec: CodecName, finished: Finished) -> None:
        exact, found = (
            [load_state(RunFolder(finished[name][0]).server, number).adapter() for number in (0, 1)]
            for name in ("fp32", codec)
        )
        bound = {"fp32": 0.0, "bf16": 0.01, "int8": 0.03, "int4": 0.25}[codec]
        assert distance(found[1], exact[1]) <= bound * distance(exact[1], exact[0])
        assert (distance(found[1], exact[1]) > 0) == (codec != "fp32")


def test_plain_float32_changes_nothing(finished: Finished) -> None:
    """What a site trained is what the server averages."""
    folder, _ = finished["fp32"]
    for site in ("alpha", "beta"):
        for number in (2, 3):
            trained = load_adapter(RunFolder(folder).site(site).adapter(number))
            assert update(folder, number, site).digest == trained.digest


def test_the_better_the_codec_the_fewer_the_bytes(finished: Finished) -> None:
    for way in (0, 1):
        sizes = [
            sum(sizes[way] for sizes in traffic(RunFolder(finished[codec][0]).server, 3).values()) for codec in CODECS
        ]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == len(CODECS)


def test_what_int4_loses_on_the_way_down_is_kept_in_the_state(finished: Finished) -> None:
    server = RunFolder(finished["int4"][0]).server
    states = [load_state(server, number) for number in range(4)]
    assert states[0].arrays == {}
    updates = [[update(finished["int4"][0], number, site) for site in ("alpha", "beta")] for number in range(1, 4)]
    lost = {name: np.zeros_like(array) for name, array in states[0].adapter().tensors.items()}
    for state, sent in zip(states[1:], updates, strict=True):
        for name, array in state.adapter().tensors.items():
            mean = np.mean([adapter.tensors[name].astype(float) for adapter in sent], axis=0)
            kept = state.arrays[f"_lost/_global/{name}"]
            assert array + kept == pytest.approx(mean + lost[name], abs=1e-6)
            lost[name] = kept


@pytest.mark.parametrize("codec", ["bf16", "int4"])
@pytest.mark.parametrize("strategy", ["isolated", "fedavgm", "fedsa", "hetlora"])
def test_other_strategies_send_what_they_have_too(codec: CodecName, strategy: str, tmp_path: Path) -> None:
    """Adapters of single sites, parts of adapters, and adapters of other ranks; also with sites that forget."""
    ranks = {"lora": {"rank": 4, "alpha": 8.0}} if strategy == "hetlora" else {}
    clients = [toy_client("alpha", rank=2 if ranks else None), toy_client("beta", options={"secret": "b"})]
    config = toy_config(*clients, exchange={"codec": codec}, method={"strategy": strategy}, rounds=3, **ranks)
    runtime = served(config, tmp_path / "run", lost=[("beta", 3)])
    made = strategy_of(config)
    for asked, _ in opened_with_refusals(runtime):
        if asked.adapter is not None and not asked.owner:
            state = load_state(RunFolder(tmp_path / "run").server, asked.round - (asked.purpose is Purpose.ROUND))
            assert asked.adapter.digest == made.instruct(state, asked.site).adapter.digest
    assert interrupted(config, tmp_path / "again", after=60)
    run(config, tmp_path / "again", resume=True)
    assert adapters_of(tmp_path / "again", config) == adapters_of(tmp_path / "run", config)


def test_a_site_that_was_away_is_told_by_what_it_has(tmp_path: Path) -> None:
    """It answers in the first and in the last round; what it has from the first one is two rounds old by then."""

    @dataclass
    class Absent(Runtime):
        runtime: Runtime

        def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
            for index, (site, data) in enumerate(instructions):
                if site == "alpha" or Instruction.outline(data).round in (0, 1, 4):
                    yield from ((index, reply) for _, reply in self.runtime.ask([(site, data)]))

    clients = [toy_client("alpha"), toy_client("beta", options={"secret": "b"})]
    config = toy_config(*clients, rounds=4, exchange={"codec": "bf16"}, evaluation={"every": 1})
    root = RunFolder(tmp_path)
    runtime = Recorded(Absent(ProcessRuntime(SiteHost(config, root, listener=silent))))
    with open_server(config, root.server, resume=False, software=dict):
        Server(config, root.server, runtime, listener=silent).run()
    [asked] = [
        asked
        for asked, reply in opened_with_refusals(runtime)
        if (asked.site, asked.purpose, asked.round) == ("beta", Purpose.ROUND, 4)
    ]
    assert asked.adapter is not None
    assert asked.adapter.digest == load_state(root.server, 3).adapter().digest
    assert load_exchange(root.server, 3).held == {"alpha": 3, "beta": 1}
    assert load_exchange(root.server, 4).held == {"alpha": 4, "beta": 4}


@pytest.mark.long
@pytest.mark.parametrize("codec", ["bf16", "int4"])
def test_killed_at_random_moments_it_is_the_uninterrupted_run(
    codec: CodecName, toy_distribution: Path, tmp_path: Path
) -> None:
    config = config_of(codec)
    file, whole, killed = tmp_path / "config.yaml", tmp_path / "whole", tmp_path / "killed"
    file.write_text(dump_config(config))
    script = [sys.executable, HELPERS / "killed_run.py", file, whole, killed, "1"]
    variables = environment(toy_distribution, OMP_NUM_THREADS="1")
    done = subprocess.run(script, env=variables, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert fingerprint(killed) == fingerprint(whole)


def opened_with_refusals(runtime: Recorded) -> list[Any]:
    """What passed, but for what was not answered and instructions that the site could not read, which came again."""
    return [*opened([passed for passed in runtime.sent if passed[2]])]


def adapters_of(folder: Path, config: RunConfig) -> list[str]:
    server = RunFolder(folder).server
    states = [load_state(server, number) for number in range(config.rounds + 1)]
    return [adapter.digest for state in states for _, adapter in sorted(state.adapters.items())]


def distance(one: AdapterState, other: AdapterState) -> float:
    return float(np.sqrt(sum(((array - other.tensors[name]) ** 2).sum() for name, array in one.tensors.items())))
