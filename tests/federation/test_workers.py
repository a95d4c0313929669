from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.errors import EnvironmentFault, RunError, UnknownNameError
from fedse.federation.run import run
from fedse.federation.runtimes.workers import WorkerRuntime, worker_runtime
from fedse.messages import Done, Instruction, Purpose, Reply, Update
from fedse.progress import Event, Phase, silent
from fedse.rollout.player import Play
from fedse.rollout.torch.player import TorchPlayer
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.settings import dump_config
from fedse.types import Trajectory
from helpers.subprocesses import HELPERS, environment
from helpers.toy_runs import fingerprint, toy_client, toy_config

pytestmark = pytest.mark.usefixtures("toy", "warm_workers")
SITES = (toy_client("alpha"), toy_client("beta"), toy_client("gamma"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' share of the cores, so that sums have the same order however many workers there are."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def toy_run(**changes: object) -> RunConfig:
    return toy_config(*SITES, rounds=1, **changes)


@pytest.mark.parametrize("strategy", ["mean", "isolated", "fedavgm", "median"])
def test_workers_change_no_result(tmp_path: Path, strategy: str) -> None:
    events: list[Event] = []
    alone, together = (
        toy_config(*SITES, rounds=1, method={"strategy": strategy}, workers=workers) for workers in (1, 2)
    )
    run(alone, tmp_path / "alone")
    run(together, tmp_path / "together", listener=events.append)
    ours, theirs = fingerprint(tmp_path / "together"), fingerprint(tmp_path / "alone")
    assert ours.pop("server/config.yaml") != theirs.pop("server/config.yaml")
    assert ours == theirs
    finished = {(event.phase, event.round, event.client) for event in events if event.finished}
    for phase in (Phase.EXPLORE, Phase.TRAIN):
        assert {(phase, 1, site["name"]) for site in SITES} <= finished
    assert multiprocessing.active_children() == []


def test_an_error_of_a_site_arrives_as_what_it_is_and_ends_the_workers(tmp_path: Path) -> None:
    broken = toy_client("beta", demonstrations=0, options={"broken": "always"})
    config = toy_config(toy_client("alpha"), broken, workers=2)
    with pytest.raises(EnvironmentFault, match="the toy is broken") as caught:
        run(config, tmp_path / "run")
    assert "In a worker process" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


def test_a_site_that_cannot_be_set_up_is_reported(tmp_path: Path) -> None:
    config = toy_config(toy_client("alpha", train_split="missing"), workers=2)
    with pytest.raises(UnknownNameError, match="missing"):
        run(config, tmp_path / "run")


def test_a_dead_worker_is_reported_and_the_run_goes_on_later(tmp_path: Path) -> None:
    config = toy_run(workers=2)

    def kill_one(event: Event) -> None:
        if event.round == 1:
            for child in multiprocessing.active_children()[:1]:
                os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(RunError, match="a worker process died") as caught:
        run(config, tmp_path / "run", listener=kill_one)
    assert "workers=1" in caught.value.mend
    assert multiprocessing.active_children() == []
    run(toy_run(workers=1), tmp_path / "run", resume=True)  # as the error advises
    assert [record.round for record in read_records(RunFolder(tmp_path / "run").server)] == [0, 1]


@pytest.mark.long
def test_workers_end_with_their_parent(toy_distribution: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(toy_run(workers=2)))
    script = [sys.executable, HELPERS / "orphaned_workers.py", file, tmp_path / "run"]
    printed = subprocess.run(
        script, env=environment(toy_distribution), capture_output=True, text=True, timeout=120, check=False
    )
    orphans = [int(word) for word in printed.stdout.split()]
    assert printed.returncode == -signal.SIGKILL, printed.stderr
    assert len(orphans) == 2
    deadline = time.monotonic() + 20
    while any(map(_is_alive, orphans)):
        assert time.monotonic() < deadline, "the workers outlived their parent"
        time.sleep(0.05)


def test_every_instruction_is_answered(tmp_path: Path) -> None:
    config = toy_run(workers=2)
    asked = [
        Instruction(site="beta", purpose=Purpose.INITIAL),
        *(Instruction(site=site["name"], purpose=Purpose.DEMONSTRATE) for site in SITES),
    ]
    with worker_runtime(config, RunFolder(tmp_path / "run"), silent) as runtime:
        answers = dict(runtime.ask((instruction.site, instruction.encode()) for instruction in asked))
    initial, *demonstrated = (Reply.decode(answers[index]) for index in range(len(asked)))
    assert isinstance(initial.answer, Update)
    assert initial.answer.adapter.meta.rank == config.lora.rank
    assert [reply.site for reply in demonstrated] == [site["name"] for site in SITES]
    assert [reply.answer for reply in demonstrated] == [Done()] * 3


def _is_alive(process: int) -> bool:
    """Whether it runs; one that nobody has waited for counts as dead."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_sites_of_one_process_play_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    play = TorchPlayer.play

    def watched(self: TorchPlayer, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        batches.append([len(one.requests) for one in plays])
        return play(self, adapter, plays)

    monkeypatch.setattr(TorchPlayer, "play", watched)
    config = toy_run(evaluation={"tasks": 2, "every": 1})
    run(config, tmp_path)
    explored = [client.episodes_per_round for client in config.clients]
    # The evaluation before, what the three sites explore, and the evaluation after.
    assert batches == [[2], explored, [2]]


def test_the_sites_are_divided_by_what_they_took_the_last_time() -> None:
    runtime = WorkerRuntime([None, None], silent)  # type: ignore[list-item]
    asked = [(site, b"") for site in ("alpha", "beta", "gamma", "delta")]

    def shares() -> list[list[str]]:
        return [[one.site for one in share] for share in runtime._divided(asked)]

    assert [len(share) for share in shares()] == [2, 2]
    runtime._seconds |= {"alpha": 1.0, "beta": 6.0, "gamma": 2.0, "delta": 3.0}
    assert shares() == [["beta"], ["delta", "gamma", "alpha"]]


@pytest.mark.long
def test_a_script_that_starts_workers_without_a_main_guard_is_told_of_it(
    toy_distribution: Path, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(toy_run(workers=2)))
    script = tmp_path / "script.py"
    call = f"fedse.run(fedse.load_config(file=Path({str(file)!r})), {str(tmp_path / 'run')!r})"
    script.write_text(f"from pathlib import Path\nimport fedse\n{call}\n")
    told = subprocess.run(
        [sys.executable, script],
        env=environment(toy_distribution),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    ).stderr
    assert "a worker process died: it ended with status 1" in told
    assert 'below a line if __name__ == "__main__":' in told.splitlines()[-1]
