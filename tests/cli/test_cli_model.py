from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedse.cli import model
from fedse.cli.main import app
from fedse.config import ModelConfig
from fedse.models import catalogue

NAME = "smollm2-135m"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    return tmp_path / "models"


@pytest.fixture
def pulled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were asked for; pulling writes a model's folder without a network."""
    names: list[str] = []

    def pull(name: str, *, progress: object) -> Path:
        names.append(name)
        folder = cache / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 30, "architectures": ["Llama"]}))
        return folder

    monkeypatch.setattr(catalogue, "pull", pull)
    return names


def test_a_missing_base_model_is_fetched_before_a_run_and_only_once(pulled: list[str]) -> None:
    model.ensure(ModelConfig(name=NAME))
    model.ensure(ModelConfig(name=NAME))
    assert pulled == [NAME]


def test_models_outside_the_catalogue_are_left_alone(pulled: list[str]) -> None:
    model.ensure(ModelConfig(name="tiny"))
    model.ensure(ModelConfig(name="some/hub-model"))
    assert pulled == []


def test_pull_prints_where_the_model_is(pulled: list[str], cache: Path) -> None:
    result = CliRunner().invoke(app, ["model", "pull"])
    assert result.exit_code == 0
    assert str(cache / NAME) in result.output.replace("\n", "")
    assert pulled == [NAME]


def test_show_describes_a_model_and_says_how_to_fetch_a_missing_one(pulled: list[str]) -> None:
    runner = CliRunner()
    assert f"fedse model pull {NAME}" in runner.invoke(app, ["model", "show"]).output
    model.ensure(ModelConfig(name=NAME))
    assert "layers        30" in runner.invoke(app, ["model", "show"]).output
    assert NAME in runner.invoke(app, ["model", "ls"]).output


def test_an_unknown_model_is_a_usage_error_with_the_nearest_name(cache: Path) -> None:
    result = CliRunner().invoke(app, ["model", "show", "smolm2-135m"])
    assert result.exit_code == 2
    assert NAME in result.output


def test_a_cache_that_cannot_be_written_is_found_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("FEDSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(catalogue, "_download", lambda *_: pytest.fail("nothing may be fetched"))
    for words in (["model", "pull"], ["run", "--preset", "five-sites", "--out", str(tmp_path / "run")]):
        result = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
        assert result.exit_code == 1
        assert f"cannot write {tmp_path}/file/.cache/fedse/models/{NAME}: Not a directory" in result.output
        assert "→ set FEDSE_CACHE to a folder that this process may write to" in result.output
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path / "new/cache"))
    assert catalogue.check_cache(catalogue.models_folder()) == tmp_path
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "run"] == ["file"], "asking leaves no trace"
