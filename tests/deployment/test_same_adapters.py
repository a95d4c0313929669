"""However messages travel, and wherever the sites' processes run, a run ends with the same adapters."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from fedse.config import RunConfig
from fedse.deployment.files import SiteFile, load_site_file
from fedse.deployment.local import SERVER, LocalFederation
from fedse.deployment.server import serve_federation
from fedse.deployment.site import SiteService
from fedse.federation.run import run
from fedse.federation.runtimes.flower.node import serve
from fedse.progress import silent
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from helpers.toy_runs import toy_client, toy_config, update

#: Environment → what its site does; the nano model solves some of Wordle's games, and so learns from its own episodes.
SITES: dict[str, dict[str, Any]] = {
    "maze": {"demonstrations": 2, "episodes_per_round": 1, "max_turns": 3},
    "textcraft": {"demonstrations": 3, "episodes_per_round": 1, "max_turns": 3},
    "wordle": {"options": {"size": 20}, "demonstrations": 3, "episodes_per_round": 6},
}
SECONDS = 300.0


def real_config(*, workers: int = 1) -> RunConfig:
    """Three rounds of three environments on the nano model, in seconds."""
    return toy_config(
        *({"name": name, "environment": name} | told for name, told in SITES.items()),
        rounds=3,
        seed=11,
        workers=workers,
        model={"name": "nano"},
        rollout={"slots": 6, "max_context": 512, "max_response_tokens": 16, "temperature": 0.4, "min_p": 0.1},
        evaluation={"every": 0, "tasks": 1},
    )


def digests(config: RunConfig, server: Path, sites: dict[str, Path]) -> dict[str, str]:
    """All adapters of a run: the server's of every round, the updates that came, and those that sites still have.

    Args:
        config: of the run.
        server: what readers take for a run folder.
        sites: site → the run folder that has it.
    """
    folders = {name: RunFolder(at).site(name).root for name, at in sites.items()}
    folders[SERVER] = RunFolder(server).server.root
    found = {
        f"{side}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for side, folder in folders.items()
        for path in folder.rglob("*.safetensors")
    }
    for number in range(1, config.rounds + 1):
        found |= {f"sent/{number}/{site}": update(server, number, site).digest for site in config.sites}
    return found


def on_this_machine(config: RunConfig, folder: Path, runtime: str = "local") -> dict[str, str]:
    run(config, folder, runtime=runtime)
    return digests(config, folder, dict.fromkeys(config.sites, folder))


def deployed(config: RunConfig) -> dict[str, str]:
    """With processes, folders, keys and certificates of their own."""
    with LocalFederation(config) as federation:
        federation.start_all()
        federation.wait(SECONDS)
        federation.stop_all()
        return at_the_sides(config, federation)


def at_the_sides(config: RunConfig, federation: LocalFederation) -> dict[str, str]:
    homes = {name: next((federation.sides[name].data / "runs").iterdir()) for name in config.sites}
    return digests(config, federation.sides[SERVER].data, homes)


def linked(config: RunConfig) -> dict[str, str]:
    """As deployed, but the sites are threads of this process."""
    turn = threading.Lock()  # PyTorch loads one model at a time
    with LocalFederation(config) as federation:
        with ExitStack() as stack:
            for name in config.sites:
                stack.enter_context(at_work(load_site_file(federation.sides[name].config), turn))
            serve_federation(federation.server_file, listener=silent, told=print)
        return at_the_sides(config, federation)


@contextmanager
def at_work(file: SiteFile, turn: threading.Lock) -> Iterator[None]:
    site = SiteService(file, listener=silent, told=print)

    def answer(data: bytes) -> bytes:
        with turn:
            return site.answer(data)

    thread = threading.Thread(
        target=serve,
        args=(file.server,),
        kwargs={
            "authority": file.authority,
            "private_key": file.private_key,
            "answer": answer,
            "stop": site.stop,
            "told": print,
            "limit": 10**8,
        },
    )
    thread.start()
    try:
        yield
    finally:
        site.stop.set()
        thread.join()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The adapters of a run in this process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    found = on_this_machine(real_config(), folder)
    explored = [record.clients["wordle"]["explore"]["kept"] for record in read_records(RunFolder(folder).server)[1:]]
    assert any(explored[:-1]), "later rounds build on episodes of the site's own"
    server = {path for path in found if path.startswith(SERVER)}
    assert len({found[path] for path in server}) == len(server) == 4, "every round changes the adapter"
    sent = [digest for path, digest in found.items() if path.startswith("sent/")]
    assert len(set(sent)) == len(sent) == 9, "every site trains another one"
    return found


@pytest.mark.long
def test_worker_processes(whole: dict[str, str], tmp_path: Path) -> None:
    # One thread each, as in this process: the number of threads changes sums.
    assert on_this_machine(real_config(workers=2), tmp_path / "run") == whole


@pytest.mark.long
def test_flower_simulation(whole: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert on_this_machine(real_config(), tmp_path / "run", "flower") == whole


@pytest.mark.long
def test_flower_deployment(whole: dict[str, str]) -> None:
    assert deployed(real_config()) == whole


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("strategy", ["mean", "weighted_mean", "isolated"])
def test_strategies_over_a_link(strategy: str, tmp_path: Path) -> None:
    """The sites are threads of this process, which is quicker."""
    sites = (toy_client("alpha"), toy_client("beta", demonstrations=2), toy_client("gamma", demonstrations=4))
    config = toy_config(*sites, rounds=3, method={"strategy": strategy}, evaluation={"every": 0, "tasks": 1})
    here = on_this_machine(config, tmp_path / "run")
    kept = 1 + 3 * (len(config.sites) if strategy == "isolated" else 1)
    assert len({digest for name, digest in here.items() if name.startswith(SERVER)}) == kept
    assert linked(config) == here
