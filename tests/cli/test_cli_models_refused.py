"""A dry run, a run, an evaluation, a game and an update refuse the same models: see ``SharedModel.on``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fedse.config import LoraConfig, ModelConfig, TrainingConfig
from fedse.errors import ModelError
from fedse.learning.update import local_update
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.models.tiny import tiny_tokenizer
from helpers.chat_families import FAMILIES
from helpers.cli_calls import Cli
from helpers.export_runs import made_run
from helpers.learning_reference import SMALL, examples, records


def saved(folder: Path, family: str = "llama", *, added: int = 0, template: str = "", **more: Any) -> Path:
    """A small model of a family, in a folder."""
    small = SMALL | {"vocab_size": 259, "max_position_embeddings": 8192, "pad_token_id": 0, "eos_token_id": 2} | more
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**small)).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<added{number}>" for number in range(added)])
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return folder


#: What is wrong with a model, and what is said of it.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "conv layers": (
        {"family": "lfm2", "num_hidden_layers": 4, "layer_types": ["conv"] * 3 + ["full_attention"]},
        "no attention over tokens (conv)",
    ),
    "capped logits": (
        {"family": "gemma2", "attn_logit_softcapping": None, "final_logit_softcapping": 0.001},
        "changes its logits after the output embedding",
    ),
    "a short window": ({"family": "mistral", "sliding_window": 128}, "a sliding window of 128 tokens"),
    "no linear layers": ({"family": "gpt2"}, "has no torch.nn.Linear layer to adapt"),
    "more ids than embeddings": ({"added": 4}, "token ids up to 262, but the model has embeddings for 259"),
    "a damaged template": ({"template": "{% for m in messages %}"}, "TemplateSyntaxError"),
    "a short context": ({"max_position_embeddings": 256}, "has a context of 256 tokens"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_whoever_would_use_a_model_refuses_it_in_the_same_words(cli: Cli, tmp_path: Path, fault: str) -> None:
    more, words = REFUSED[fault]
    model = saved(tmp_path / "model", **more)
    settings = ["--preset", "tiny", "--set", f"model.name={model}", "--set", "rollout.max_context=1024"]
    dry = cli("run", *settings, "--dry-run")
    run = cli("run", *settings, "--out", tmp_path / "run", "--quiet")
    for result in (dry, run):
        assert result.exit_code != 0
        assert words in " ".join(result.stderr.split())
        assert "fits" not in result.stderr
        assert "Traceback" not in result.output


#: Who would use a model: words of a command, given a run folder of that model and the model itself.
ENTRANCES: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "dry run": lambda _, model: ("run", "--preset", "tiny", "--set", f"model.name={model}", "--dry-run"),
    "run": lambda run, model: ("run", "--preset", "tiny", "-s", f"model.name={model}", "-o", run.with_name("new")),
    "eval": lambda run, _: ("eval", run, "--tasks", 1),
    "eval of an adapter": lambda run, model: ("eval", run / GLOBAL, "--model", model, "--env", "maze"),
    "play": lambda run, _: ("play", "maze", "--who", "model", "--adapter", run),
}
GLOBAL = "server/rounds/002/global"


@pytest.fixture(scope="module")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; the model, of a family that rollouts do not compute, lies beside it."""
    folder = tmp_path_factory.mktemp("unsupported")
    more, _ = REFUSED["conv layers"]
    return made_run(folder / "run", str(saved(folder / "model", **more)))


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_an_unsupported_family_is_refused_in_the_same_words_wherever_it_would_play(
    cli: Cli, unsupported: Path, entrance: str
) -> None:
    result = cli(*ENTRANCES[entrance](unsupported, unsupported.with_name("model")))
    assert result.exit_code == 1
    assert REFUSED["conv layers"][1] in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_an_update_refuses_an_unsupported_family_in_the_same_words(unsupported: Path) -> None:
    base = load_base(ModelConfig(name=str(unsupported.with_name("model")), device="cpu"))
    with pytest.raises(ModelError) as refusal:
        local_update(LoraModel(base, LoraConfig()), examples(records((30, 30))), TrainingConfig(steps=1), seed=0)
    assert REFUSED["conv layers"][1] in str(refusal.value)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template has the form of Mistral's v0.3: the system message stands in the last user message."""
    return saved(tmp_path_factory.mktemp("mistral") / "model", template=FAMILIES["mistral-v0.3"].template)


def test_a_template_with_the_rules_in_the_last_message_is_run_evaluated_and_played(
    cli: Cli, mistral: Path, tmp_path: Path
) -> None:
    small = ["clients=[{name: maze, environment: maze, demonstrations: 1, episodes_per_round: 1}]", "rounds=1"]
    small += ["training.steps=1", "evaluation.tasks=1", "rollout.max_turns=2", "rollout.max_response_tokens=4"]
    settings = [word for one in [f"model.name={mistral}", *small] for word in ("--set", one)]
    for words in (
        ("run", "--preset", "tiny", *settings, "--dry-run"),
        ("run", "--preset", "tiny", *settings, "--out", tmp_path / "run", "--quiet"),
        ("eval", tmp_path / "run", "--tasks", 1, "--quiet"),
        ("play", "maze", "--who", "model", "--adapter", tmp_path / "run"),
    ):
        result = cli(*words)
        assert result.exit_code == 0, result.output
    shown = cli("view", tmp_path / "run", "--round", 0, "--mask").stdout
    assert "[INST] " in shown


def test_a_dry_run_takes_what_a_run_takes(cli: Cli, tmp_path: Path) -> None:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    model = saved(tmp_path / "model", "gemma3_text", num_hidden_layers=6, layer_types=kinds, head_dim=8)
    dry = cli("run", "--preset", "tiny", "--set", f"model.name={model}", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "was not tried" not in dry.stderr
    assert "No memory plan" in dry.stderr


def test_a_dry_run_says_what_it_could_not_try(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    dry = cli("run", "--preset", "five-sites", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "smollm2-135m can be trained and played was not tried: its files are not on this machine" in " ".join(
        dry.stderr.split()
    )


def test_the_copy_of_a_model_is_small_whatever_the_model() -> None:
    from fedse.planning.base_model import _copy

    large = CONFIG_MAPPING["llama"](num_hidden_layers=80, hidden_size=1024, intermediate_size=28672, vocab_size=128256)
    copy = _copy(large)
    assert copy.config.num_hidden_layers == 2
    assert sum(parameter.numel() for parameter in copy.parameters()) < 2 * 5 * 1024**2
    assert large.num_hidden_layers == 80


@pytest.mark.long
def test_a_relative_path_holds_wherever_the_program_runs_next(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "models" / "mine")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    settings = ["--preset", "tiny", "--set", "model.name=models/mine"]
    assert cli("run", *settings, "--out", tmp_path / "run", "--quiet").exit_code == 0
    monkeypatch.chdir(other)
    assert cli("eval", tmp_path / "run", "--tasks", "1").exit_code == 0
    for name, told in (
        ("models/mine", "taken for a Hugging Face id, since there is no folder"),
        ("a/b/c", "there is no folder"),
        ("mine", f"no such name, and no folder {other / 'mine'}"),
    ):
        result = cli("run", "--preset", "tiny", "--set", f"model.name={name}", "--out", tmp_path / "none")
        assert result.exit_code != 0
        assert told in " ".join(result.stderr.split())
