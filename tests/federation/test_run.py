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
from fedse.config import RunConfig
from fedse.errors import EnvironmentFault, FedseError, RunError, UnknownNameError, VersionWarning
from fedse.experience import trajectory_files
from fedse.experience.store import ExperienceStore
from fedse.federation.aggregation import server_step
from fedse.federation.runtimes import exchange
from fedse.federation.runtimes.local import run
from fedse.progress import Event, Phase
from fedse.runs import folder as run_folder
from fedse.runs import phases
from fedse.runs.evaluators import evaluators
from fedse.runs.folder import locked, open_run, read_config, read_records
from fedse.runs.layout import RunLayout
from fedse.seeding import derive_seed
from fedse.settings import load_config
from fedse.sites import pooling
from fedse.sites import site as client
from fedse.sites.shared_model import SharedModel
from fedse.sites.site import Client
from helpers.toy_runs import adapters, fingerprint, toy_client, toy_config, without_seconds

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
        records = read_records(RunLayout(finished))
        assert [record.round for record in records] == [0, 1, 2]
        for record in records:
            adapter = load_adapter(RunLayout(finished).global_adapter(record.round))
            assert record.adapter == adapter.digest
            assert set(record.evaluation) == {"toy"}
            assert record.evaluation["toy"].episodes == 4
            assert set(record.clients) == {"alpha", "beta"}
        assert set(records[0].clients["alpha"]) == {"demonstrate"}
        assert set(records[1].clients["alpha"]) == {"explore", "train", "outcome"}
        assert records[1].clients["alpha"]["outcome"] == "ok"
        assert set(records[1].seconds) == {"explore", "train", "aggregate", "evaluate"}

    def test_the_global_adapter_is_the_mean_of_the_updates(self, finished: Path) -> None:
        layout = RunLayout(finished)
        for round in (1, 2):
            updates = [load_adapter(layout.update(round, name)) for name in ("alpha", "beta")]
            combined = load_adapter(layout.global_adapter(round))
            for name, array in combined.tensors.items():
                first, second = (update.tensors[name].astype("float64") for update in updates)
                assert (array == ((first + second) / 2).astype("float32")).all()

    def test_the_result_names_the_final_adapter(self, finished: Path) -> None:
        result = run(CONFIG, finished, resume=True)
        assert result.adapter == finished / "rounds/002/global"
        assert result.before == result.records[0].evaluation
        assert result.after == result.records[2].evaluation

    def test_its_configuration_runs_the_same_run(self, finished: Path, tmp_path: Path) -> None:
        config = load_config(None, finished / "config.yaml", [])
        assert config == CONFIG == read_config(RunLayout(finished))
        run(config, tmp_path / "again")
        assert fingerprint(tmp_path / "again") == fingerprint(finished)

    def test_another_seed_makes_another_run(self, finished: Path, tmp_path: Path) -> None:
        other = toy_config(seed=1)
        run(other, tmp_path / "other")
        assert not set(adapters(tmp_path / "other", other)) & set(adapters(finished, CONFIG))

    def test_versions_are_noted_without_paths(self, finished: Path) -> None:
        text = (finished / "versions.json").read_text()
        assert {"python", "platform", "fedse", "source", "torch", "transformers", "peft"} <= set(json.loads(text))
        assert "/" not in text
        assert json.loads(text)["arithmetic"].startswith("float32 on cpu ("), "the tiny model's, whatever the hardware"

    def test_nothing_half_made_and_nothing_unknown_is_left(self, finished: Path) -> None:
        assert sorted(path.name for path in finished.iterdir()) == [
            "clients",
            "config.yaml",
            "metrics.jsonl",
            "rounds",
            "run.lock",
            "versions.json",
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
        alone = Client(config, config.clients[0], shared, RunLayout(tmp_path / "alone"))
        alone.demonstrate()
        adapter = shared.lora.initial_state(derive_seed(config.seed, "adapter"))
        for round in (1, 2, 3):
            adapter = alone.round(round, adapter).adapter
            assert load_adapter(RunLayout(tmp_path / "federation").global_adapter(round)).digest == adapter.digest

    def test_the_order_of_clients_does_not_matter(self, tmp_path: Path) -> None:
        sites = [toy_client("alpha"), toy_client("beta", demonstrations=2), toy_client("gamma", episodes_per_round=2)]
        forth, back = toy_config(*sites), toy_config(*reversed(sites))
        run(forth, tmp_path / "forth")
        run(back, tmp_path / "back")
        assert adapters(tmp_path / "forth", forth) == adapters(tmp_path / "back", back)
        metrics = [
            [
                json.dumps(without_seconds(json.loads(line)))  # as text, which also shows the order of the clients
                for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
            ]
            for name in ("forth", "back")
        ]
        assert metrics[0] == metrics[1]

    def test_a_client_does_not_depend_on_who_else_takes_part(self, finished: Path, tmp_path: Path) -> None:
        config = toy_config(toy_client("beta"), rounds=1)
        run(config, tmp_path / "alone")
        ours, theirs = (RunLayout(folder).update(1, "beta") for folder in (tmp_path / "alone", finished))
        assert load_adapter(ours).digest == load_adapter(theirs).digest

    def test_a_larger_server_step_goes_further_along_the_mean(self, finished: Path, tmp_path: Path) -> None:
        run(toy_config(rounds=1, method={"server_lr": 2.0}), tmp_path / "bold")
        bold, plain = RunLayout(tmp_path / "bold"), RunLayout(finished)
        start, mean = (load_adapter(plain.global_adapter(round)) for round in (0, 1))
        assert load_adapter(bold.global_adapter(1)).digest == server_step(start, mean, 2.0).digest


class TestMethods:
    def test_fedit_is_static_demonstrations_and_a_weighted_mean(self, tmp_path: Path) -> None:
        sites = [toy_client("large", demonstrations=6), toy_client("small", demonstrations=2)]
        run(toy_config(*sites, rounds=1, method={"explore": False, "aggregator": "weighted_mean"}), tmp_path / "run")
        layout = RunLayout(tmp_path / "run")
        large, small = (load_adapter(layout.update(1, name)) for name in ("large", "small"))
        for name, array in load_adapter(layout.global_adapter(1)).tensors.items():
            expected = 0.75 * large.tensors[name].astype("float64") + 0.25 * small.tensors[name]
            assert array == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert set(read_records(layout)[1].clients["large"]) == {"train", "outcome"}
        assert not layout.trajectories("large", 1).exists()

    @pytest.mark.parametrize(("every", "evaluated"), [(0, {0, 4}), (1, {0, 1, 2, 3, 4}), (3, {0, 3, 4})])
    def test_evaluation_is_done_when_due(self, tmp_path: Path, every: int, evaluated: set[int]) -> None:
        config = toy_config(toy_client("solo"), rounds=4, evaluation={"every": every})
        result = run(config, tmp_path / "run")
        assert {record.round for record in result.records if record.evaluation} == evaluated

    def test_sites_with_the_same_tasks_are_evaluated_once(self) -> None:
        same = [toy_client("b"), toy_client("a")]
        assert evaluators(toy_config(*same)) == {"toy": "a"}
        other = toy_client("c", options={"secret": "x"})
        assert evaluators(toy_config(other, *same)) == {"toy@a": "a", "toy@c": "c"}
        shorter = toy_client("c", max_turns=1)
        assert evaluators(toy_config(shorter, *same)) == {"toy@a": "a", "toy@c": "c"}
        assert evaluators(toy_config(*same, toy_client("d", environment="maze"))) == {"toy": "a", "maze": "d"}

    def test_isolated_sites_are_all_evaluated(self) -> None:
        config = toy_config(toy_client("b"), toy_client("a"), method={"sharing": "isolated"})
        assert evaluators(config) == {"toy@a": "a", "toy@b": "b"}


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
        with (
            open_run(CONFIG, tmp_path / "run", resume=False),
            pytest.raises(RunError, match="another process works in"),
        ):
            run(CONFIG, tmp_path / "run", resume=True)
        with open_run(CONFIG, tmp_path / "run", resume=True):
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
        with open_run(others, tmp_path / "run", resume=True) as layout:
            assert read_config(layout) == others
        run(CONFIG, tmp_path / "run", resume=True)
        assert fingerprint(tmp_path / "run") == fingerprint(finished)

    def test_versions_that_change_are_warned_of_and_noted_with_the_round(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interrupted(CONFIG, tmp_path / "run", after=10)
        layout = RunLayout(tmp_path / "run")
        before = json.loads(layout.versions.read_text())
        monkeypatch.setattr(run_folder, "source_digest", lambda: "feed")
        with (
            pytest.warns(VersionWarning, match=rf"other versions from round 0: source {before['source']}, now feed"),
            open_run(CONFIG, layout.root, resume=True),
        ):
            pass
        noted = before | {"source": f"{before['source']}, then feed from round 0"}
        assert json.loads(layout.versions.read_text()) == noted
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(CONFIG, layout.root, resume=True)
            monkeypatch.setattr(run_folder, "source_digest", lambda: "beef")
            run(CONFIG, layout.root, resume=True)  # finished: nothing is made with these versions
        assert json.loads(layout.versions.read_text()) == noted

    def test_a_packed_run_is_told_from_one_that_can_go_on(self, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(finished, tmp_path / "packed", ignore=shutil.ignore_patterns("rounds"))
        for resume in (True, False):
            with pytest.raises(RunError, match="was packed"):
                run(CONFIG, tmp_path / "packed", resume=resume)

    def test_an_unknown_name_leaves_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError):
            run(toy_config(method={"aggregator": "meen"}), tmp_path / "run")
        assert list(tmp_path.iterdir()) == []

    def test_an_environment_that_does_not_exist_is_told_before_any_work(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="toi"):
            run(toy_config(toy_client("a"), toy_client("b", environment="toi")), tmp_path / "run")
        assert not (tmp_path / "run" / "rounds").exists()
        run(toy_config(toy_client("a"), rounds=1), tmp_path / "run")  # with the name mended, without another folder

    @pytest.mark.parametrize(
        "content", ["{", '{"schema_version": 1}\n', '{"schema_version": 99, "round": 0}\n', "[]\n", "\xff"]
    )
    def test_damaged_metrics_are_told(self, tmp_path: Path, content: str) -> None:
        layout = RunLayout(tmp_path)
        layout.metrics.write_text(content, encoding="latin-1")
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            read_records(layout)

    def test_rounds_that_are_missing_are_told(self, finished: Path, tmp_path: Path) -> None:
        lines = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "metrics.jsonl").write_text(lines[0] + lines[2])
        with pytest.raises(RunError, match="its rounds are not"):
            read_records(RunLayout(tmp_path))

    @pytest.mark.parametrize(
        "damaged", ["rounds/000/global/adapter_model.safetensors", "clients/alpha/phases/round-001-train.json"]
    )
    def test_a_damaged_file_is_named_on_resuming(self, finished: Path, tmp_path: Path, damaged: str) -> None:
        interrupted(CONFIG, tmp_path / "run", after=10)
        (tmp_path / "run" / damaged).write_bytes(b"")
        with pytest.raises(FedseError, match=damaged):
            run(CONFIG, tmp_path / "run", resume=True)


class StoppedError(Exception):
    """What an interrupted listener raises."""


def interrupted(config: RunConfig, folder: Path, *, after: int, resume: bool = False) -> bool:
    """Run until so many events were told; whether that was before the end."""
    told = 0

    def listen(_: Event) -> None:
        nonlocal told
        told += 1
        if told > after:
            raise StoppedError

    try:
        run(config, folder, resume=resume, listener=listen)
    except StoppedError:
        return True
    return False


@pytest.fixture
def without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, and waiting for the disk takes a third of the time."""
    monkeypatch.setattr("fedse.storage.os.fsync", lambda descriptor: None)


@pytest.mark.usefixtures("without_flushing")
class TestResume:
    """A resumed run is the uninterrupted one, byte for byte but for seconds."""

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
            {"history": False, "aggregator": "weighted_mean", "filter": "none"},
            {"sharing": "pooled"},
            {"sharing": "isolated", "restart": True},
            {"restart": True, "server_lr": 2.0},
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
    # marker; metrics.  Then the round: explored episodes, store, marker; update, marker; global adapter; held-out
    # episodes, marker; metrics.
    @pytest.mark.parametrize(
        ("sharing", "sites", "begin", "writes"),
        [
            ("federated", ["solo"], 1, 18),
            ("pooled", ["solo"], 12, 17),  # the update is the global adapter
            ("isolated", ["one", "two"], 23, 33),  # no global adapter; episodes and marker of each visiting adapter
        ],
    )
    def test_after_a_stop_at_any_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharing: str, sites: list[str], begin: int, writes: int
    ) -> None:
        """Between two writes lie the moments that no event marks, as after the store and before the marker."""
        clients = [toy_client(name) for name in sites]
        config = toy_config(*clients, rounds=1, evaluation={"tasks": 1}, method={"sharing": sharing})
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
        (client, "save_adapter"),
        (exchange, "save_adapter"),
        (pooling, "save_adapter"),
        (ExperienceStore, "add"),
    ):
        patch.setattr(owner, name, watched(getattr(owner, name)))
