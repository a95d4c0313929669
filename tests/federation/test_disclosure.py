"""What a site has for itself, and what it tells: canaries in all that it sees, and each field of its report."""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fedse.config import RunConfig
from fedse.environments import make
from fedse.errors import DivergenceError, RunError
from fedse.experience.agenttraj import write_agenttraj
from fedse.federation.run import run
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.federation.server import Server
from fedse.learning.update import local_update
from fedse.messages import DEFAULT_FIELDS, FIELDS, PhaseSummary, TaskSummary
from fedse.progress import silent
from fedse.rollout.scripted import demonstrate
from fedse.runs.folder import open_server
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.records import read_records
from fedse.sites.host import SiteHost
from fedse.sites.shared_model import SharedModel
from fedse.types import RoundRecord
from helpers.canaries import found_in, names_and_bytes, seen_at
from helpers.runtimes import HostedSites, Recorded
from helpers.toy_environment import CANARIES
from helpers.toy_runs import toy_client, toy_config

pytestmark = pytest.mark.usefixtures("toy", "without_flushing", "one_model")

#: One of each kind of message, and what it needs that a site may keep back.
STRATEGIES = {
    "mean": None,
    "weighted_mean": "examples",
    "isolated": None,
    "fedavgm": None,
    "fedsa": None,
    "private": None,
    "hetlora": None,
    "regmean": "moments",
    "scaffold": "gradients",
    "median": None,
}
SETTINGS: dict[str, list[str] | None] = {
    "default": None,
    "nothing": [],
    "rates": ["rates"],
    "numbers": sorted(DEFAULT_FIELDS),
}


@pytest.fixture
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the tiny model takes longer than most runs here."""
    monkeypatch.setattr(SharedModel, "load", staticmethod(_model))


def _model(config: RunConfig, **_: object) -> SharedModel:
    return _loaded(config.model.name, config.lora.rank, config.lora.alpha)


@functools.cache
def _loaded(name: str, rank: int, alpha: float) -> SharedModel:
    config = toy_config(model={"name": name}, lora={"rank": rank, "alpha": alpha})
    return _LOAD(config)


_LOAD: Callable[[RunConfig], SharedModel] = SharedModel.load


def serve(
    config: RunConfig,
    folder: Path,
    *,
    own: RunConfig | None = None,
    reach: Callable[[SiteHost], Runtime] = HostedSites,
) -> tuple[Recorded, Path]:
    """Sites and server in a folder each: all that passed between them, and the server's folder.

    Args:
        config: as the server has it.
        folder: of both.
        own: as the sites have it, with settings that are none of the server's business.
        reach: makes the runtime.
    """
    server = ServerFolder(folder / "server")
    runtime = Recorded(reach(SiteHost(own or config, RunFolder(folder / "at-the-sites"), listener=silent)))
    with open_server(config, server, resume=False, software=dict):
        try:
            Server(config, server, runtime, listener=silent).run()
        except RunError as error:
            (server.root / "error.txt").write_text(str(error))
    return runtime, server.root


def all_bytes(runtime: Recorded, server: Path) -> bytes:
    """Every byte that passed, in both directions, and every byte and name in the server's folder."""
    passed = [data for _, asked, reply in runtime.sent for data in (asked, reply)]
    return b"\n".join([*passed, names_and_bytes(server)])


def whispering(**changes: Any) -> list[dict[str, Any]]:
    return [toy_client(name, environment="whispering", **changes) for name in ("alpha", "beta")]


def config_of(strategy: str, *clients: dict[str, Any], **changes: Any) -> RunConfig:
    ranked = strategy == "hetlora"
    given = [client | {"rank": 1} if ranked and number == 0 else client for number, client in enumerate(clients)]
    room = {"max_context": 1024, "slots": 4}
    return toy_config(*given, rounds=1, method={"strategy": strategy}, rollout=room, **changes)


def with_files(config: RunConfig, folder: Path) -> RunConfig:
    """The run as its sites have it: demonstrations come from files whose names are nobody else's business."""
    environment = make("whispering")
    shown = demonstrate(environment, environment.tasks("train"), 3, instruction="Rules.", seed=3)
    file = folder / CANARIES["file"] / f"{CANARIES['file']}.json"
    file.parent.mkdir(parents=True)
    write_agenttraj(file, shown)
    clients = tuple(client.model_copy(update={"demonstrations_file": str(file)}) for client in config.clients)
    return config.model_copy(update={"clients": clients})


def test_forms_are_found() -> None:
    text = CANARIES["task"]
    for hidden in (
        text,
        text.encode().hex(),
        *(base64.b64encode(b"x" * n + text.encode() + b"y").decode() for n in range(3)),
    ):
        assert found_in(f"abc{hidden}def".encode(), [text]) == [text]
    assert found_in(text[:-1].encode(), [text]) == []


class TestCanaries:
    """In tasks, instruction, observations, thoughts, actions and faults, and in the name and content of files."""

    @pytest.mark.parametrize("disclosed", SETTINGS.values(), ids=list(SETTINGS))
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_none_leaves_a_site(self, strategy: str, disclosed: list[str] | None, tmp_path: Path) -> None:
        if (needed := STRATEGIES[strategy]) and disclosed is not None:
            disclosed = sorted({*disclosed, needed})
        runtime, server = serve(config_of(strategy, *whispering(disclose=disclosed)), tmp_path)
        assert [record.round for record in read_records(ServerFolder(server))] == [0, 1]
        nothing_left(runtime, server, tmp_path / "at-the-sites")

    @pytest.mark.parametrize("disclosed", SETTINGS.values(), ids=list(SETTINGS))
    def test_nor_with_demonstrations_from_files_and_faults(self, disclosed: list[str] | None, tmp_path: Path) -> None:
        clients = whispering(disclose=disclosed, options={"broken": "sometimes"}, demonstrations=1)
        config = config_of("mean", *clients)
        runtime, server = serve(config, tmp_path, own=with_files(config, tmp_path / "files"))
        [_, record] = read_records(ServerFolder(server))
        assert ("errors" in record.clients["alpha"]["explore"]) == (disclosed not in ([], ["rates"]))
        assert any(CANARIES["fault"] in text for text in seen_at(tmp_path / "at-the-sites"))
        nothing_left(runtime, server, tmp_path / "at-the-sites")

    @pytest.mark.parametrize("disclosed", [None, [], ["rates"], sorted(DEFAULT_FIELDS), ["errors_in_words"]])
    def test_the_words_of_a_fault_leave_only_where_the_site_says_so(
        self, disclosed: list[str] | None, tmp_path: Path
    ) -> None:
        alpha, beta = whispering(disclose=disclosed)
        broken = alpha | {"options": {"broken": "always"}, "demonstrations": 0}
        told = ["fault"] if disclosed == ["errors_in_words"] else []
        config = config_of("mean", beta, broken, evaluation={"every": 0, "tasks": 1})
        runtime, server = serve(config, tmp_path)
        record = read_records(ServerFolder(server))[1]
        outcome = record.clients["alpha"]["outcome"]
        assert outcome.startswith("refused: ")
        assert (outcome == "refused: EnvironmentFault") == (not told)
        found = found_in(all_bytes(runtime, server), CANARIES.values())
        assert found == [CANARIES[where] for where in told]
        assert record.clients["beta"]["outcome"] == "ok"

    def test_a_site_that_cannot_begin_tells_no_more(self, tmp_path: Path) -> None:
        broken = [client | {"options": {"broken": "always"}} for client in whispering()]
        runtime, server = serve(config_of("mean", *broken), tmp_path)
        assert "refused: EnvironmentFault" in (server / "error.txt").read_text()
        assert found_in(all_bytes(runtime, server), CANARIES.values()) == []

    def test_what_a_site_keeps_back_a_strategy_does_not_get_either(self, tmp_path: Path) -> None:
        runtime, server = serve(config_of("weighted_mean", *whispering(disclose=[])), tmp_path)
        assert "refused: ConfigError" in (server / "error.txt").read_text()
        assert read_records(ServerFolder(server)) == ()
        assert found_in(all_bytes(runtime, server), CANARIES.values()) == []

    def test_on_one_machine_the_error_is_whole(self, tmp_path: Path) -> None:
        """It ends the run in front of the person who has the site, and passes no message."""
        from fedse.errors import EnvironmentFault

        broken = [client | {"options": {"broken": "always"}} for client in whispering()]
        with pytest.raises(EnvironmentFault, match=CANARIES["fault"]):
            run(config_of("mean", *broken), tmp_path / "run")
        server = tmp_path / "run/server"
        assert found_in(all_bytes(Recorded(HostedSites(None)), server), CANARIES.values()) == []  # type: ignore[arg-type]


def nothing_left(runtime: Recorded, server: Path, sites: Path) -> None:
    """No canary passed, and no other text that the sites have."""
    texts = seen_at(sites)
    for where in ("task", "instruction", "observation", "thought", "action"):
        assert any(CANARIES[where] in text for text in texts), f"the sites have seen the canary of {where}"
    content = all_bytes(runtime, server)
    assert found_in(content, CANARIES.values()) == []
    assert not [text for text in texts if len(text) >= 8 and text.encode() in content]


class TestFields:
    """Each field of a report can be kept back, and nothing else changes by that."""

    @pytest.fixture
    def played(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str] | None], Path]:
        """Serves anew over sites that have done everything, with what they may disclose; the server's folder."""
        monkeypatch.setattr("fedse.sites.training.local_update", _diverging_at_beta)
        alpha, beta = toy_client("alpha"), toy_client("beta")
        numbers = itertools.count()

        def serve_again(disclosed: list[str] | None) -> Path:
            config = config_of("mean", *({**client, "disclose": disclosed} for client in (alpha, beta)))
            server = ServerFolder(tmp_path / f"server-{next(numbers)}")
            own = self.with_file(config, tmp_path / "toy.json")
            host = SiteHost(own, RunFolder(tmp_path / "at-the-sites"), listener=silent)
            with open_server(config, server, resume=False, software=dict):
                runtime = Recorded(ProcessRuntime(host))
                Server(config, server, runtime, listener=silent).run()
            (server.root / "joined").write_bytes(b"".join(reply for _, _, reply in runtime.sent[:2]))
            return server.root

        toy = make("toy")
        write_agenttraj(
            tmp_path / "toy.json",
            demonstrate(toy, [*toy.tasks("train"), *toy.tasks("test")], 11, instruction="Rules.", seed=3),
        )
        serve_again(None)
        return serve_again

    @staticmethod
    def with_file(config: RunConfig, file: Path) -> RunConfig:
        clients = tuple(client.model_copy(update={"demonstrations_file": str(file)}) for client in config.clients)
        return config.model_copy(update={"clients": clients})

    def test_a_field_that_is_kept_back_is_in_no_record(self, played: Callable[[list[str] | None], Path]) -> None:
        whole = read_records(ServerFolder(played(sorted(FIELDS))))
        assert told_fields(whole) == set(PhaseSummary.model_fields), "the runs tell of every field"
        for field in sorted(FIELDS):
            server = played(sorted(set(FIELDS) - {field}))
            records = read_records(ServerFolder(server))
            assert told_fields(records) == set(PhaseSummary.model_fields) - {field}
            text = (server / "metrics.jsonl").read_text()
            if field not in {"seconds", "episodes", "successes", "errors"}:  # which stand in records beside, too
                assert f'"{field}":' not in text
            assert all(bool(record.evaluation) == (field != "rates") for record in records)
            joined = (server / "joined").read_bytes()
            for name in TaskSummary.model_fields:
                assert (f'"{name}":null'.encode() in joined) == (name == field)
            assert [record.adapter for record in records] == [record.adapter for record in whole]

    def test_a_site_that_tells_nothing_leaves_its_outcome_and_its_update(
        self, played: Callable[[list[str] | None], Path]
    ) -> None:
        server = played([])
        for line in (server / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            assert record["evaluation"] == {}
            for told in record["clients"].values():
                assert all(value in ({}, "ok", "diverged") for value in told.values())
            assert set(record["seconds"]) <= {"aggregate"}

    def test_one_site_decides_for_itself_alone(self, tmp_path: Path) -> None:
        clients = [toy_client("alpha", disclose=["kept", "rates"]), toy_client("beta", options={"secret": "b"})]
        records = run(config_of("mean", *clients), tmp_path / "run").records
        told = records[1].clients
        assert set(told["alpha"]["explore"]) == {"kept"}
        assert set(told["beta"]["explore"]) > {"kept", "episodes", "seconds"}
        assert told["alpha"]["train"] == {}
        quiet = [toy_client("alpha", disclose=[]), toy_client("beta", options={"secret": "b"})]
        assert set(run(config_of("mean", *quiet), tmp_path / "quiet").records[1].evaluation) == {"toy@beta"}


def told_fields(records: Iterable[RoundRecord]) -> set[str]:
    found: set[str] = set()
    for record in records:
        for phases in record.clients.values():
            for name, told in phases.items():
                found |= set(told) if name != "outcome" else set()
    return found


def _diverging_at_beta(*arguments: Any, seed: int, **options: Any) -> Any:
    from fedse.seeding import derive_seed

    if seed == derive_seed(0, "beta", 1, "train"):
        raise DivergenceError("step 2 of 2: the loss is nan")
    return local_update(*arguments, seed=seed, **options)
