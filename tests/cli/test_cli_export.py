from __future__ import annotations

from pathlib import Path

import pytest

from fedse.adapters.files import load_adapter
from fedse.storage import read_json
from helpers.cli_calls import Cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny model, one round of one site with nothing but a demonstration."""
    from fedse.federation.run import run as run_federation
    from fedse.progress import silent
    from fedse.settings import load_config

    settings = ["clients=[{name: site, environment: wordle, demonstrations: 1}]", "rounds=1", "training.steps=1"]
    settings += ["method.explore=false", "evaluation.tasks=1", "rollout.max_turns=1", "rollout.max_response_tokens=4"]
    folder = tmp_path_factory.mktemp("export") / "run"
    run_federation(load_config("tiny", None, settings), folder, resume=False, listener=silent)
    return folder


def test_an_adapter_and_a_model_are_exported_with_their_cards(cli: Cli, run: Path, tmp_path: Path) -> None:
    result = cli("export", run, "-o", tmp_path / "adapter", "--round", 0)
    assert result.exit_code == 0, result.output
    assert "peft loads it on tiny" in result.stdout
    assert read_json(tmp_path / "adapter" / "fedse.json")["round"] == 0
    result = cli("export", run, "-o", tmp_path / "model", "--merged")
    assert result.exit_code == 0, result.output
    assert read_json(tmp_path / "model" / "fedse.json")["round"] == 1
    assert "# tiny, round 1" in (tmp_path / "model" / "README.md").read_text()


def test_an_adapter_is_compressed_and_its_card_says_that_it_was_not_measured(
    cli: Cli, run: Path, tmp_path: Path
) -> None:
    result = cli("export", run, "-o", tmp_path, "--rank", 2)
    assert result.exit_code == 0, result.output
    assert "Compressed to rank 2" in result.stdout
    assert load_adapter(tmp_path).meta.rank == read_json(tmp_path / "adapter_config.json")["r"] == 2
    card = (tmp_path / "README.md").read_text()
    assert "was compressed to rank 2" in card
    assert "success_rate" not in card


def test_metrics_are_exported_for_other_tools(cli: Cli, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: fedse[parquet]")
    pytest.importorskip("tensorboard", reason="needs tensorboard: fedse[tensorboard]")
    files = [tmp_path / "metrics.csv", tmp_path / "metrics.parquet"]
    result = cli(
        "export", run, "--metrics", files[0], "--metrics", files[1], "--log-to", f"tensorboard:{tmp_path / 'logs'}"
    )
    assert result.exit_code == 0, result.output
    assert all(file.stat().st_size for file in files)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to export"),
        (("--metrics", "metrics.xlsx"), "name it *.csv or *.parquet"),
        (("-o", "out", "--metrics", "metrics.xlsx"), "name it *.csv or *.parquet"),
        (("--metrics", "metrics.csv", "--merged"), "--merged has no effect without --out"),
        (("--metrics", "metrics.csv", "--round", 0), "--round has no effect without --out"),
        (("--metrics", "metrics.csv", "--client", "zz"), "--client has no effect without --out"),
        (("--log-to", "tensorboard", "--base", "x"), "--base has no effect without --out"),
        (("-o", "out", "--round", 7), "has no round 7"),
        (("-o", "out", "--client", "site"), "leave --client out"),
        (("-o", "out", "--rank", 99), "cannot be compressed to rank 99"),
        (("--metrics", "metrics.csv", "--rank", 2), "--rank has no effect without --out"),
        (("-o", "out", "--merged", "--base", "x"), "--base is a field of an adapter"),
    ],
)
def test_what_cannot_be_exported_is_explained(
    cli: Cli, run: Path, words: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("export", run, *words)
    assert result.exit_code != 0
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_tells_tensorboard_while_it_goes_on(cli: Cli, run: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard: fedse[tensorboard]"
    )
    logs = f"tensorboard:{tmp_path / 'logs'}"
    result = cli("run", "-c", run / "server/config.yaml", "-o", tmp_path / "again", "--log-to", logs, "-q")
    assert result.exit_code == 0, result.output
    assert f"tensorboard --logdir {tmp_path / 'logs'}" in result.stdout
    found = reader.EventAccumulator(str(tmp_path / "logs" / "again"))
    found.Reload()
    assert {"evaluate/rate/wordle", "train/last_loss/site"} <= set(found.Tags()["scalars"])
    assert [event.step for event in found.Scalars("evaluate/rate/wordle")] == [0, 1]
