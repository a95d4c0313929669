from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from fedse.adapters.files import load_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.diagnostics.experience import LengthBin, buffer_at, rewards_by_length
from fedse.diagnostics.records import COLUMNS, as_csv
from fedse.diagnostics.rounds import RoundDiagnostics, diagnose
from fedse.diagnostics.transfer import AFTER, BEFORE, transfer_matrix
from fedse.errors import RunError
from fedse.federation.run import run
from fedse.results.reading import run_at
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from fedse.types import Source, StopReason, Task, Trajectory, Turn

CONFIG = RunConfig.model_validate(
    {
        "rounds": 2,
        "model": {"name": "tiny", "device": "cpu"},
        "lora": {"rank": 2, "alpha": 4.0, "target_modules": ("q_proj", "v_proj")},
        "clients": [
            {"name": "labyrinth", "environment": "maze", "demonstrations": 3, "episodes_per_round": 2},
            {"name": "words", "environment": "wordle", "demonstrations": 2, "episodes_per_round": 2},
        ],
        "rollout": {"slots": 4, "max_turns": 2, "max_response_tokens": 4},
        "training": {"steps": 2, "batch_size": 1, "learning_rate": 1e-2, "schedule": "constant", "b_ratio": 2.0},
        "method": {"strategy": "weighted_mean", "options": {"restart": False}},
        "evaluation": {"tasks": 2},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    run(CONFIG, path)
    return path


@pytest.fixture(scope="module")
def rounds(folder: Path) -> list[RoundDiagnostics]:
    return diagnose(folder)


def flat(state: AdapterState, factor: str) -> np.ndarray:
    tensors = state.tensors
    return np.concatenate([array.ravel().astype(float) for name, array in tensors.items() if f"lora_{factor}" in name])


class TestRounds:
    def test_every_round_compares_what_was_sent_with_what_was_broadcast(
        self, folder: Path, rounds: list[RoundDiagnostics]
    ) -> None:
        run_ = run_at(folder)
        assert [found.round for found in rounds] == [1, 2]
        for found in rounds:
            assert found.clients == ("labyrinth", "words")
            for factor in ("A", "B"):
                before = flat(run_.adapter(found.round - 1), factor)
                one, two = (flat(run_.update(found.round, name), factor) - before for name in found.clients)
                cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
                assert found.conflicts[factor].mean_cosine == pytest.approx(cosine)
                assert found.sign_agreement[factor] == pytest.approx(np.mean(np.abs(np.sign(one) + np.sign(two))) / 2)

    def test_gradients_are_scaled_by_the_learning_rates_of_the_run(
        self, folder: Path, rounds: list[RoundDiagnostics]
    ) -> None:
        run_ = run_at(folder)
        expected = 0.0
        for factor, walked in (("A", 2 * 1e-2), ("B", 2 * 2e-2)):  # two steps, those of B twice as long
            before = flat(run_.adapter(1), factor)
            one, two = ((flat(run_.update(2, name), factor) - before) / walked for name in rounds[1].clients)
            expected += np.sum((one - two) ** 2) / 4
        assert rounds[1].gradient_heterogeneity == pytest.approx(expected)

    def test_the_error_explains_what_the_server_made_of_the_products(
        self, folder: Path, rounds: list[RoundDiagnostics]
    ) -> None:
        run_, record = run_at(folder), read_records(RunFolder(folder).server)[2]
        weights = np.array([record.clients[name]["train"]["examples"] for name in rounds[1].clients], dtype=float)
        assert weights[0] != weights[1]
        states = [run_.update(2, name).tensors for name in rounds[1].clients]
        combined = run_.adapter(2).tensors
        error = whole = 0.0
        for name in combined:
            if "lora_A" in name:
                b = name.replace("lora_A", "lora_B")
                exact = sum(
                    w * s[b].astype(float) @ s[name] for w, s in zip(weights / weights.sum(), states, strict=True)
                )
                error += np.sum((exact - combined[b].astype(float) @ combined[name]) ** 2)
                whole += np.sum(exact**2)
        assert rounds[1].error.of_product == pytest.approx(math.sqrt(error / whole), rel=1e-3)

    def test_traffic_is_the_adapter_and_a_manifest(self, folder: Path, rounds: list[RoundDiagnostics]) -> None:
        size = load_adapter(RunFolder(folder).server.global_adapter(0)).nbytes
        for found in rounds:
            for sizes in (found.bytes_up, found.bytes_down):
                assert sizes.keys() == {"labyrinth", "words"}
                assert all(size / 4 < sent < size + 4096 for sent in sizes.values())

    def test_experience_grows_by_what_the_rounds_say_they_added(
        self, folder: Path, rounds: list[RoundDiagnostics]
    ) -> None:
        records = read_records(RunFolder(folder).server)
        for name, shown in (("labyrinth", 3), ("words", 2)):
            total = shown
            for found in rounds:
                buffer = found.buffers[name]
                added = records[found.round].clients[name]["explore"]["added"]
                total += added
                assert (buffer.episodes, buffer.demonstrations, buffer.fresh) == (total, shown, added)
            assert sum(length.episodes for length in rounds[0].lengths[name]) == 2

    def test_a_run_under_way_shows_its_complete_rounds(self, folder: Path, tmp_path: Path) -> None:
        import shutil

        copy = tmp_path / "run"
        shutil.copytree(folder, copy)
        metrics = RunFolder(copy).server.metrics
        lines = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(lines[:2]))
        assert [found.round for found in diagnose(copy)] == [1]
        metrics.write_text(lines[0])
        assert diagnose(copy) == []

    def test_an_update_that_was_rejected_is_left_out(self, folder: Path, tmp_path: Path) -> None:
        import shutil

        copy = tmp_path / "run"
        shutil.copytree(folder, copy)
        metrics = RunFolder(copy).server.metrics
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        lines[1]["clients"]["words"]["outcome"] = "rejected: too large"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        first, second = diagnose(copy)
        assert (first.clients, second.clients) == (("labyrinth",), ("labyrinth", "words"))
        assert first.conflicts["A"].dilution == pytest.approx(1)

    def test_a_restarted_update_is_measured_from_where_it_began(self, folder: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(folder, tmp_path / "run")
        config = RunFolder(tmp_path / "run").server.config
        config.write_text(config.read_text().replace("restart: false", "restart: true"))
        _, second = diagnose(tmp_path / "run")
        run_ = run_at(tmp_path / "run")
        one, two = (flat(run_.update(2, name), "A") - flat(run_.adapter(0), "A") for name in second.clients)
        cosine = one @ two / np.sqrt((one @ one) * (two @ two))
        assert second.conflicts["A"].mean_cosine == pytest.approx(cosine)

    def test_without_updates_there_is_experience(self, folder: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(folder, tmp_path / "run")
        metrics = RunFolder(tmp_path / "run").server.metrics
        lines = [json.loads(line) | {"adapter": ""} for line in metrics.read_text().splitlines()]
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = diagnose(tmp_path / "run")
        assert [part.clients for part in found] == [(), ()]
        assert found[1].buffers == diagnose(folder)[1].buffers
        assert {row["metric"].split("_")[0] for row in csv.DictReader(as_csv(found).splitlines())} <= {
            "buffer",
            "episodes",
            "successes",
            "reward",
        }

    def test_the_table_holds_every_figure(self, rounds: list[RoundDiagnostics]) -> None:
        rows = list(csv.DictReader(as_csv(rounds).splitlines()))
        assert tuple(rows[0]) == COLUMNS
        keys = [tuple(row[column] for column in COLUMNS[:-1]) for row in rows]
        assert len(set(keys)) == len(keys)
        values = dict(zip(keys, (float(row["value"]) for row in rows), strict=True))
        assert values["2", "words", "labyrinth", "cosine_B"] == rounds[1].conflicts["B"].mean_cosine
        assert values["1", "", "", "dilution_AB"] == rounds[0].conflicts["AB"].dilution
        assert values["1", "words", "", "buffer_demonstrations"] == 2


class TestTransfer:
    def test_the_global_adapters_do_as_in_the_run(self, folder: Path) -> None:
        told: list[tuple[str, str]] = []
        found = transfer_matrix(folder, on_rate=lambda adapter, environment, _: told.append((adapter, environment)))
        records = read_records(RunFolder(folder).server)
        assert found.round == 2
        assert found.rates[BEFORE] == records[1].evaluation
        assert found.rates[AFTER] == records[2].evaluation
        assert list(found.rates) == [BEFORE, "client labyrinth", "client words", AFTER]
        assert told == [(adapter, environment) for adapter, rates in found.rates.items() for environment in rates]

    def test_fewer_tasks_can_be_played(self, folder: Path) -> None:
        found = transfer_matrix(folder, tasks=1)
        assert {rate.episodes for rates in found.rates.values() for rate in rates.values()} == {1}

    def test_a_run_without_a_round_is_told(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "server").mkdir()
        (tmp_path / "server/config.yaml").write_text(RunFolder(folder).server.config.read_text())
        with pytest.raises(RunError, match="no complete round"):
            transfer_matrix(tmp_path)


def episode(turns: int, *, task: int = 0, reward: float = 1.0, round: int = 0, fault: bool = False) -> Trajectory:
    return Trajectory(
        Task("maze", str(task)),
        Source.POLICY if round else Source.EXPERT,
        "",
        (Turn("", "", "", 0.0),) * turns,
        "",
        None if fault else reward == 1.0,
        reward,
        StopReason.ERROR if fault else StopReason.DONE,
        round=round,
    )


class TestExperience:
    def test_a_buffer_holds_what_was_added_until_then(self) -> None:
        stored = [episode(2), episode(4, task=1), episode(3, round=1), episode(7, task=2, round=2)]
        found = buffer_at(stored, 1)
        assert (found.episodes, found.demonstrations, found.fresh, found.tasks, found.turns) == (3, 2, 1, 2, 3.0)
        assert math.isnan(buffer_at([], 1).turns)

    def test_rewards_are_binned_by_powers_of_two(self) -> None:
        played = [episode(1), episode(2, reward=0.0), episode(3), episode(4, reward=0.5), episode(5), episode(8)]
        assert rewards_by_length(played) == [
            LengthBin(0, 1, 1, 1, 1.0),
            LengthBin(2, 2, 1, 0, 0.0),
            LengthBin(3, 4, 2, 1, 0.75),
            LengthBin(5, 8, 2, 2, 1.0),
        ]

    def test_episodes_lost_to_faults_have_no_reward(self) -> None:
        assert rewards_by_length([episode(0, reward=0.0), episode(3, fault=True)]) == [LengthBin(0, 1, 1, 0, 0.0)]
