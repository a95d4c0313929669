from __future__ import annotations

import fcntl
import json
import math
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.errors import EnvironmentFault, FedseError, RunError, UnknownNameError, VersionWarning
from fedse.experience import trajectory_files
from fedse.experience.store import ExperienceStore
from fedse.federation import channel as server_channel
from fedse.federation import server
from fedse.federation.evaluators import evaluators
from fedse.federation.run import run
from fedse.federation.strategies.averaging import server_step
from fedse.messages import Instruction, Purpose, Update
from fedse.progress import Event, Phase, silent
from fedse.rollout.together import alone
from fedse.runs import folder as run_folder
from fedse.runs import phases, records
from fedse.runs.folder import locked, open_server, read_config
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.records import read_records
from fedse.settings import load_config
from fedse.sites import channel as site_channel
from fedse.sites import site as sites
from fedse.sites.host import versions
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Site
from helpers.toy_runs import (
    StoppedError,
    adapters,
    fingerprint,
    interrupted,
    toy_client,
    toy_config,
    update,
    without_seconds,
)

pytestmark = pytest.mark.usefixtures("toy")
CONFIG = toy_config()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_distribution: Path) -> Path:
    """An uninterrupted run of ``CONFIG``."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(toy_distribution))
        run(CONFIG, folder)
    return folder


class TestRun:
    def test_every_round_is_recorded(self, finished: Path) -> None:
        server = RunFolder(finished).server
        records = read_records(server)
        assert [record.round for record in records] == [0, 1, 2]
        for record in records:
            adapter = load_adapter(server.global_adapter(record.round))
            assert record.adapter == adapter.digest
            assert set(record.evaluation) == {"toy"}
            assert record.evaluation["toy"].episodes == 4
            assert set(record.clients) == {"alpha", "beta"}
        assert set(records[0].clients["alpha"]) == {"demonstrate"}
        assert set(records[1].clients["alpha"]) == {"explore", "train", "outcome"}
        assert records[1].clients["alpha"]["outcome"] == "ok"
        assert set(records[1].seconds) == {"explore", "train", "aggregate", "evaluate"}

    def test_the_global_adapter_is_the_mean_of_the_updates(self, finished: Path) -> None:
        for round in (1, 2):
            updates = [update(finished, round, site) for site in ("alpha", "beta")]
            combined = load_adapter(RunFolder(finished).server.global_adapter(round))
            for name, array in combined.tensors.items():
                first, second = (sent.tensors[name].astype("float64") for sent in updates)
                assert (array == ((first + second) / 2).astype("float32")).all()

    def test_the_result_names_the_final_adapter(self, finished: Path) -> None:
        result = run(CONFIG, finished, resume=True)
        assert result.adapter == finished / "server/rounds/002/global"
        assert result.before == result.records[0].evaluation
        assert result.after == result.records[2].evaluation

    def test_its_configuration_runs_the_same_run(self, finished: Path, tmp_path: Path) -> None:
        config = load_config(None, finished / "server/config.yaml", [])
        assert config == CONFIG == read_config(RunFolder(finished).server)
        run(config, tmp_path / "again")
        assert fingerprint(tmp_path / "again") == fingerprint(finished)

    def test_another_seed_makes_another_run(self, finished: Path, tmp_path: Path) -> None:
        other = toy_config(seed=1)
        run(other, tmp_path / "other")
        assert not set(adapters(tmp_path / "other", other)) & set(adapters(finished, CONFIG))

    def test_versions_are_noted_without_paths(self, finished: Path) -> None:
        text = (finished / "server/versions.json").read_text()
        assert {"python", "platform", "fedse", "source", "torch", "transformers", "peft"} <= set(json.loads(text))
        assert "/" not in text
        assert json.loads(text)["arithmetic"].startswith("float32 on cpu ("), "the tiny model's, whatever the hardware"

    def test_nothing_half_made_and_nothing_unknown_is_left(self, finished: Path) -> None:
        assert sorted(path.name for path in finished.iterdir()) == ["server", "sites"]
        assert sorted(path.name for path in (finished / "server").iterdir()) == [
            "config.yaml",
            "metrics.jsonl",
            "rounds",
            "server.lock",
            "versions.json",
        ]
        assert sorted(path.name for path in (finished / "server/rounds/002").iterdir()) == [
            "changes",
            "exchange.json",
            "global",
            "replies",
            "state.json",
            "told.json",
        ]
        assert sorted(path.name for path in (finished / "sites/alpha").iterdir()) == [
            "adapters",
            "evaluation",
            "experience.sqlite",
            "phases",
            "received",
            "trajectories",
        ]
        assert not [path for path in finished.rglob("*") if path.name.startswith(".")]

    def test_progress_is_told_phase_by_phase(self, tmp_path: Path) -> None:
        events: list[Event] = []
        run(toy_config(toy_client("solo"), rounds=1), tmp_path / "run", listener=events.append)
        phases = [(event.phase, event.round, event.client) for event in events if event.finished]
        assert phases == [
            (Phase.DEMONSTRATE, 0, "solo"),
            (Phase.EVALUATE, 0, "solo"),
            (Phase.EXPLORE, 1, "solo"),
            (Phase.TRAIN, 1, "solo"),
            (Phase.AGGREGATE, 1, ""),
            (Phase.EVALUATE, 1, "solo"),
        ]
        within = {event.phase: event for event in events if not event.finished}
        assert set(within) == {Phase.DEMONSTRATE, Phase.EXPLORE, Phase.TRAIN, Phase.EVALUATE}
        for phase, event in within.items():
            assert event.done == event.total > 0, phase
        assert math.isfinite(within[Phase.TRAIN].loss)
        ends = {event.phase: event for event in events if event.finished}
        assert ends[Phase.TRAIN].tokens > 0
        assert math.isfinite(ends[Phase.TRAIN].loss)


class TestInvariants:
    def test_one_client_is_the_client_alone(self, tmp_path: Path) -> None:
        config = toy_config(toy_client("solo"), rounds=3)
        run(config, tmp_path / "federation")
        shared = SharedModel.load(config)
        site = Site(config, "solo", shared, RunFolder(tmp_path / "alone"), listener=silent)
        alone(shared.player, site.answer(Instruction(site="solo", purpose=Purpose.DEMONSTRATE)))
        adapter = shared.initial_adapter(config)
        for round in (1, 2, 3):
            asked = Instruction(site="solo", purpose=Purpose.ROUND, round=round, adapter=adapter)
            answer = alone(shared.player, site.answer(asked)).answer
            assert isinstance(answer, Update)
            adapter = answer.adapter
            federated = RunFolder(tmp_path / "federation").server.global_adapter(round)
            assert load_adapter(federated).digest == adapter.digest

    def test_the_order_of_clients_does_not_matter(self, tmp_path: Path) -> None:
        sites = [toy_client("alpha"), toy_client("beta", demonstrations=2), toy_client("gamma", episodes_per_round=2)]
        forth, back = toy_config(*sites), toy_config(*reversed(sites))
        run(forth, tmp_path / "forth")
        run(back, tmp_path / "back")
        assert adapters(tmp_path / "forth", forth) == adapters(tmp_path / "back", back)
        metrics = [
            [
                json.dumps(without_seconds(json.loads(line)))  # as text, which also shows the order of the clients
                for line in (tmp_path / name / "server/metrics.jsonl").read_text().splitlines()
            ]
            for name in ("forth", "back")
        ]
        assert metrics[0] == metrics[1]

    def test_a_client_does_not_depend_on_who_else_takes_part(self, finished: Path, tmp_path: Path) -> None:
        config = toy_config(toy_client("beta"), rounds=1)
        run(config, tmp_path / "alone")
        ours, theirs = (update(folder, 1, "beta") for folder in (tmp_path / "alone", finished))
        assert ours.digest == theirs.digest

    def test_a_larger_server_step_goes_further_along_the_mean(self, finished: Path, tmp_path: Path) -> None:
        run(toy_config(rounds=1, method={"options": {"server_lr": 2.0}}), tmp_path / "bold")
        bold, plain = RunFolder(tmp_path / "bold").server, RunFolder(finished).server
        start, mean = (load_adapter(plain.global_adapter(round)) for round in (0, 1))
        assert load_adapter(bold.global_adapter(1)).digest == server_step(start, mean, 2.0).digest


class TestMethods:
    def test_fedit_is_static_demonstrations_and_a_weighted_mean(self, tmp_path: Path) -> None:
        sites = [toy_client("large", demonstrations=6), toy_client("small", demonstrations=2)]
        run(toy_config(*sites, rounds=1, method={"explore": False, "strategy": "weighted_mean"}), tmp_path / "run")
        folder = RunFolder(tmp_path / "run")
        large, small = (update(folder.root, 1, name) for name in ("large", "small"))
        for name, array in load_adapter(folder.server.global_adapter(1)).tensors.items():
            expected = 0.75 * large.tensors[name].astype("float64") + 0.25 * small.tensors[name]
            assert array == pytest.approx(expected, rel=1e-6, abs=1e-9)
        record = read_records(folder.server)[1]
        assert set(record.clients["large"]) == {"train", "outcome"}
        assert record.scalars == {"large": {"examples": 6.0}, "small": {"examples": 2.0}}
        assert not list(folder.sites.glob("*/trajectories/round-001*"))

    @pytest.mark.parametrize(("every", "evaluated"), [(0, {0, 4}), (1, {0, 1, 2, 3, 4}), (3, {0, 3, 4})])
    def test_evaluation_is_done_when_due(self, tmp_path: Path, every: int, evaluated: set[int]) -> None:
        config = toy_config(toy_client("solo"), rounds=4, evaluation={"every": every})
        result = run(config, tmp_path / "run")
        assert {record.round for record in result.records if record.evaluation} == evaluated

    def test_sites_with_the_same_tasks_are_evaluated_once(self) -> None:
        same = [toy_client("b"), toy_client("a")]
        assert evaluating(*same) == {"toy": "a"}
        other = toy_client("c", options={"secret": "x"})
        assert evaluating(other, *same) == {"toy@a": "a", "toy@c": "c"}
        shorter = toy_client("c", max_turns=1)
        assert evaluating(shorter, *same) == {"toy@a": "a", "toy@c": "c"}
        assert evaluating(*same, toy_client("d", environment="maze")) == {"toy": "a", "maze": "d"}
        assert evaluating(*(client | {"site": "all"} for client in same)) == {"toy": "a"}

    def test_isolated_sites_are_all_evaluated(self) -> None:
        sites = [toy_client("b"), toy_client("a"), toy_client("c", site="a")]
        assert evaluating(*sites, method={"strategy": "isolated"}) == {"toy@a": "a", "toy@b": "b"}


def evaluating(*clients: dict[str, Any], **changes: Any) -> dict[str, str]:
    return {label: client.name for label, client in evaluators(toy_config(*clients, **changes)).items()}


class TestFolder:
    def test_a_folder_with_a_run_is_not_overwritten(self, finished: Path) -> None:
        before = fingerprint(finished)
        with pytest.raises(RunError, match="has a run already") as caught:
            run(CONFIG, finished)
        assert "--resume" in caught.value.mend
        assert fingerprint(finished) == before

    def test_a_folder_with_something_else_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        for resume in (False, True):
            with pytest.raises(RunError, match="no run folder"):
                run(CONFIG, tmp_path, resume=resume)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_another_configuration_is_refused_with_what_differs(self, finished: Path) -> None:
        other = toy_config(seed=5, training={"steps": 3}, rounds=9)
        with pytest.raises(RunError) as caught:
            run(other, finished, resume=True)
        for line in ("seed: 0 there, 5 now", "training.steps: 2 there, 3 now", "rounds: 2 there, 9 now"):
            assert line in caught.value.what
        assert "lora" not in caught.value.what

    def test_another_client_list_is_refused_by_its_keys(self, finished: Path) -> None:
        with pytest.raises(RunError, match=r"clients\.1\.name: beta there, nothing now"):
            run(toy_config(toy_client("alpha")), finished, resume=True)

    def test_a_finished_run_returns_at_once(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = fingerprint(finished)
        monkeypatch.setattr(SharedModel, "load", None)
        assert len(run(CONFIG, finished, resume=True).records) == 3
        assert fingerprint(finished) == before

    def test_resuming_begins_where_there_is_nothing(self, finished: Path, tmp_path: Path) -> None:
        run(CONFIG, tmp_path / "deep" / "run", resume=True)
        assert fingerprint(tmp_path / "deep" / "run") == fingerprint(finished)

    def test_two_processes_cannot_work_in_one_folder(self, tmp_path: Path) -> None:
        server = RunFolder(tmp_path / "run").server
        with (
            open_server(CONFIG, server, resume=False, software=dict),
            pytest.raises(RunError, match="another process works in"),
        ):
            run(CONFIG, tmp_path / "run", resume=True)
        with open_server(CONFIG, server, resume=True, software=dict):
            pass  # free again

    def test_a_reader_that_asks_who_works_stops_nobody(self, tmp_path: Path) -> None:
        lock = tmp_path / "run.lock"
        lock.touch()
        with lock.open() as asking:
            fcntl.flock(asking, fcntl.LOCK_SH)
            answered = threading.Timer(0.05, fcntl.flock, (asking, fcntl.LOCK_UN))
            answered.start()
            with locked(lock):
                answered.join()

    def test_a_run_goes_on_with_another_number_of_workers_and_says_so(self, finished: Path, tmp_path: Path) -> None:
        interrupted(CONFIG, tmp_path / "run", after=10)
        others = toy_config(workers=2)
        server = RunFolder(tmp_path / "run").server
        with open_server(others, server, resume=True, software=dict):
            assert read_config(server) == others
        run(CONFIG, tmp_path / "run", resume=True)
        assert fingerprint(tmp_path / "run") == fingerprint(finished)

    def test_versions_that_change_are_warned_of_and_noted_with_the_round(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupted(CONFIG, tmp_path / "run", after=10)
        server = RunFolder(tmp_path / "run").server
        before = json.loads(server.versions.read_text())
        monkeypatch.setattr("fedse.provenance.source_digest", lambda: "feed")
        with (
            pytest.warns(VersionWarning, match=rf"other versions from round 0: source {before['source']}, now feed"),
            open_server(CONFIG, server, resume=True, software=lambda: versions(CONFIG)),
        ):
            pass
        noted = before | {"source": f"{before['source']}, then feed from round 0"}
        assert json.loads(server.versions.read_text()) == noted
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(CONFIG, tmp_path / "run", resume=True)
            monkeypatch.setattr("fedse.provenance.source_digest", lambda: "beef")
            run(CONFIG, tmp_path / "run", resume=True)  # finished: nothing is made with these versions
        assert json.loads(server.versions.read_text()) == noted

    def test_a_packed_run_is_told_from_one_that_can_go_on(self, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(finished, tmp_path / "packed", ignore=shutil.ignore_patterns("rounds"))
        for resume in (True, False):
            with pytest.raises(RunError, match="was packed"):
                run(CONFIG, tmp_path / "packed", resume=resume)

    def test_an_unknown_name_leaves_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError):
            run(toy_config(method={"strategy": "meen"}), tmp_path / "run")
        assert list(tmp_path.iterdir()) == []

    def test_an_environment_that_does_not_exist_is_told_before_any_work(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="toi"):
            run(toy_config(toy_client("a"), toy_client("b", environment="toi")), tmp_path / "run")
        assert not (tmp_path / "run/server/rounds").exists()
        run(toy_config(toy_client("a"), rounds=1), tmp_path / "run")  # with the name mended, without another folder

    @pytest.mark.parametrize(
        "content", ["{", '{"schema_version": 1}\n', '{"schema_version": 99, "round": 0}\n', "[]\n", "\xff"]
    )
    def test_damaged_metrics_are_told(self, tmp_path: Path, content: str) -> None:
        server = ServerFolder(tmp_path)
        server.metrics.write_text(content, encoding="latin-1")
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            read_records(server)

    def test_rounds_that_are_missing_are_told(self, finished: Path, tmp_path: Path) -> None:
        lines = (finished / "server/metrics.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "metrics.jsonl").write_text(lines[0] + lines[2])
        with pytest.raises(RunError, match="its rounds are not"):
            read_records(ServerFolder(tmp_path))

    @pytest.mark.parametrize(
        "damaged",
        [
            "server/rounds/000/global/adapter_model.safetensors",
            "server/rounds/000/state.json",
            "sites/alpha/phases/round-001-train.json",
        ],
    )
    def test_a_damaged_file_is_named_on_resuming(self, finished: Path, tmp_path: Path, damaged: str) -> None:
        interrupted(CONFIG, tmp_path / "run", after=20)
        (tmp_path / "run" / damaged).write_bytes(b"")
        with pytest.raises(FedseError, match=damaged):
            run(CONFIG, tmp_path / "run", resume=True)


@pytest.mark.usefixtures("without_flushing")
class TestResume:
    """A resumed run is the uninterrupted one, byte for byte but for seconds."""

    @pytest.mark.long
    def test_after_an_interruption_at_any_event(self, finished: Path, tmp_path: Path) -> None:
        expected = fingerprint(finished)
        after = 0
        while interrupted(CONFIG, tmp_path / str(after), after=after):
            run(CONFIG, tmp_path / str(after), resume=True)
            assert fingerprint(tmp_path / str(after)) == expected, f"interrupted after {after} events"
            after += 9
        assert after > 40

    def test_after_one_interruption_upon_another(self, finished: Path, tmp_path: Path) -> None:
        for after in range(1, 100):
            if not interrupted(CONFIG, tmp_path / "run", after=after, resume=True):
                break
        assert after > 5
        assert fingerprint(tmp_path / "run") == fingerprint(finished)

    @pytest.mark.parametrize(
        "method",
        [
            {"history": False, "strategy": "weighted_mean", "filter": "none"},
            {"strategy": "isolated", "options": {"restart": True}},
            {"options": {"restart": True, "server_lr": 2.0}},
        ],
    )
    def test_with_other_methods(self, tmp_path: Path, method: dict[str, Any]) -> None:
        config = toy_config(method=method)
        run(config, tmp_path / "whole")
        for after in (20, 45):
            assert interrupted(config, tmp_path / str(after), after=after)
            run(config, tmp_path / str(after), resume=True)
            assert fingerprint(tmp_path / str(after)) == fingerprint(tmp_path / "whole")

    # Writes: the configuration, the versions, the initial adapter; demonstrations, store, marker; held-out episodes,
    # marker; what the sites have, metrics.  Then the round: explored episodes, store, marker; update, marker; what
    # rounding lost of it; the server's state; the new adapter as it was received, and that it was; held-out episodes,
    # marker; what the sites have, metrics.
    @pytest.mark.parametrize(
        ("strategy", "clients", "begin", "writes"),
        [
            ("mean", [toy_client("solo")], 1, 23),
            ("mean", [toy_client("one", site="all"), toy_client("two", site="all")], 18, 29),
            ("isolated", [toy_client("one"), toy_client("two")], 24, 42),  # with those of each visiting adapter
        ],
        ids=["mean", "several-environments", "isolated"],
    )
    @pytest.mark.long
    def test_after_a_stop_at_any_write(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        strategy: str,
        clients: list[dict[str, Any]],
        begin: int,
        writes: int,
    ) -> None:
        """Between two writes lie the moments that no event marks, as after the store and before the marker."""
        config = toy_config(
            *clients, rounds=1, evaluation={"tasks": 1}, method={"strategy": strategy}, exchange={"codec": "int4"}
        )
        run(config, tmp_path / "whole")
        expected = fingerprint(tmp_path / "whole")
        for number in range(begin, writes + 1):
            folder = tmp_path / str(number)
            with monkeypatch.context() as patch:
                _stop_after_write(patch, number)
                with pytest.raises(StoppedError):
                    run(config, folder)
            run(config, folder, resume=True)
            assert fingerprint(folder) == expected, f"stopped after write {number}"
        with monkeypatch.context() as patch:
            _stop_after_write(patch, writes + 1)
            run(config, tmp_path / "one more")  # which there is not

    def test_a_mended_environment_goes_on_where_it_broke(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The environment breaks in the exploration of beta, and is whole again afterwards."""
        with monkeypatch.context() as patch:

            def breaks(event: Event) -> None:
                if (event.phase, event.client, event.finished) == (Phase.TRAIN, "alpha", True):
                    patch.setattr("helpers.toy_environment.Toy.step", _fault)

            with pytest.raises(EnvironmentFault, match="out of order"):
                run(CONFIG, tmp_path / "run", listener=breaks)
        run(CONFIG, tmp_path / "run", resume=True)
        assert fingerprint(tmp_path / "run") == fingerprint(finished)


def _fault(self: object, action: str) -> None:
    raise EnvironmentFault("out of order")


def _stop_after_write(patch: pytest.MonkeyPatch, number: int) -> None:
    """Raise just after the ``number``-th durable write, which is all that a kill before the next one can leave."""
    done = 0

    def watched(write: Any) -> Any:
        def replacement(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            result = write(*arguments, **options)
            done += 1
            if done == number:
                raise StoppedError
            return result

        return replacement

    for owner, name in (
        (phases, "write_json"),
        (trajectory_files, "atomic_write"),
        (run_folder, "atomic_write"),
        (run_folder, "write_json"),
        (records, "atomic_write"),
        (sites, "save_adapter"),
        (server, "save_round"),
        (server_channel, "save_exchange"),
        (site_channel, "atomic_write"),
        (site_channel, "write_json"),
        (ExperienceStore, "add"),
    ):
        patch.setattr(owner, name, watched(getattr(owner, name)))
