"""A GGUF file from the command line: imported, shown, planned for and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedse.models import catalogue, converting
from helpers.cli_calls import Cli
from helpers.made_gguf import TEMPLATE, write_gguf


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where converted models go."""
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small-model.gguf").path


def test_import_tells_what_it_found_and_how_to_use_the_model(cli: Cli, file: Path, models: Path) -> None:
    result = cli("model", "import", file, "--name", "mine")
    assert result.exit_code == 0, result.stderr
    told = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line and not line.startswith("Use"))
    assert told["name"] == "mine"
    assert told["model"] == "Tiny, imported from small-model.gguf"
    assert told["folder"] == str(models / "mine")
    assert told["tokenizer"] == "gpt2, split as qwen2; 420 tokens, 3 of them special"
    assert told["checked"].startswith("12 texts, ")
    assert told["chat"] == "a turn ends with <|im_end|> (2), a text with <|im_end|>"
    assert "model.name=mine" in result.stdout
    assert cli("model", "import", file, "--name", "mine").stdout == result.stdout, "what is there already is told again"


def test_an_imported_model_is_listed_shown_and_found_by_the_doctor(cli: Cli, file: Path, models: Path) -> None:
    assert cli("model", "import", file).exit_code == 0
    assert "small-model" in cli("model", "ls").stdout
    assert "layers        2" in cli("model", "show", "small-model").stdout
    assert f"at {models / 'small-model'}" in cli("doctor").stdout.replace("\n", "")


def test_a_plan_counts_the_weights_of_a_file(cli: Cli, file: Path, models: Path) -> None:
    result = cli("plan", "--preset", "quickstart", "--set", f"model.name={file}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{file}: 0.03 million parameters")
    assert not models.exists(), "nothing is converted for a plan"


def test_a_run_names_a_file_and_converts_it_before_it_begins(
    cli: Cli, file: Path, config_file: Path, tmp_path: Path
) -> None:
    result = cli("run", "--config", config_file, "--set", f"model.name={file}", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines.index("small-model.gguf: checking configuration and tokenizer") < next(
        at for at, line in enumerate(lines) if "round 1/2" in line
    )
    adapter = json.loads(
        (tmp_path / "run" / "server" / "rounds" / "002" / "global" / "adapter_config.json").read_text()
    )
    assert adapter["base_model_name_or_path"] == str(file)
    assert f"name: {file}" in (tmp_path / "run" / "server" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages|length }}" + TEMPLATE, "rewrites earlier turns"),
        (TEMPLATE.replace("<|im_end|>", "###"), "ends a turn with '#', which is an ordinary token"),
    ],
)
def test_a_template_with_which_no_agent_can_play_is_refused_before_the_weights_are_read(
    cli: Cli, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.delattr(converting, "_weights")
    result = cli("model", "import", write_gguf(tmp_path / "odd.gguf", template=template).path)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "→" in result.stderr
    assert not (models / "odd").exists()


def test_a_file_that_is_none_is_refused_with_what_to_do(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    for words in (("model", "import", page), ("run", "--preset", "quickstart", "--set", f"model.name={page}")):
        result = cli(*words, *(["--out", str(tmp_path / "run")] if words[0] == "run" else []))
        assert result.exit_code == 1
        assert "is no GGUF file: it begins with b'<htm'" in result.stderr
        assert "→" in result.stderr
    assert catalogue.installed()[-1].name == "smollm2-135m"
