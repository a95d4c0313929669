from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedse.adapters.files import load_adapter
from fedse.config import LoraConfig, ModelConfig
from fedse.errors import ModelError, StorageError
from fedse.export import export_adapter, export_merged
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.storage import read_json
from helpers.export_runs import adapter, base_folder, made_run, origin

PROBE = torch.arange(40)[None] * 6


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=PROBE, use_cache=False).logits.float()
    return found


def adapted(model: str, seed: int, dtype: Any = "float32") -> torch.Tensor:
    """What base and adapter compute side by side, as in training."""
    lora = LoraModel(load_base(ModelConfig(name=model, device="cpu", dtype=dtype)), LoraConfig())
    lora.load(adapter(seed))
    return logits(lora.base.model)


def test_an_adapter_loads_by_its_folder_alone(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    export_adapter(origin(made_run(tmp_path / "run", str(base))), tmp_path / "out")
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(loaded), adapted(str(base), 2))


def test_a_base_of_the_catalogue_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    run = made_run(tmp_path / "run", "smollm2-135m")
    with pytest.raises(ModelError, match="not on this machine"):
        export_adapter(origin(run), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = base_folder(tmp_path / "models" / "smollm2-135m")
    export_adapter(origin(run), tmp_path / "out")
    assert read_json(tmp_path / "out" / "adapter_config.json")["base_model_name_or_path"] == str(folder)
    torch.testing.assert_close(
        logits(peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")), adapted(str(folder), 2)
    )


@pytest.mark.parametrize(
    ("model", "base", "called"),
    [("someone/model", None, "someone/model"), ("tiny", None, "tiny"), ("tiny", "someone/tiny", "someone/tiny")],
)
def test_the_adapter_names_its_base(tmp_path: Path, model: str, base: str | None, called: str) -> None:
    export_adapter(origin(made_run(tmp_path / "run", model)), tmp_path / "out", base=base)
    assert read_json(tmp_path / "out" / "adapter_config.json")["base_model_name_or_path"] == called


def test_the_adapter_is_that_of_the_round(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    export_adapter(origin(run, 1), tmp_path / "out")
    assert load_adapter(tmp_path / "out", expect=None).digest == adapter(1).digest
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "README.md", "fedse.json"}
    assert read_json(tmp_path / "out" / "fedse.json")["adapter"] == adapter(1).digest


def test_a_merged_model_computes_as_base_and_adapter(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    export_merged(origin(made_run(tmp_path / "run", str(base))), tmp_path / "out")
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), adapted(str(base), 2))
    plain = logits(AutoModelForCausalLM.from_pretrained(base))
    assert float((plain - adapted(str(base), 2)).abs().max()) > 0.1  # the adapter does something


def test_merged_in_bfloat16_it_is_as_exact_as_base_and_adapter_in_bfloat16(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    export_merged(origin(made_run(tmp_path / "run", str(base), dtype="bfloat16")), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.dtype == torch.bfloat16
    exact, apart = adapted(str(base), 2), adapted(str(base), 2, "bfloat16")
    assert float((logits(merged) - exact).square().mean()) < 1.5 * float((apart - exact).square().mean())


def test_a_merged_model_has_no_trace_of_peft_its_tokenizer_with_the_template_and_files_for_all(tmp_path: Path) -> None:
    export_merged(origin(made_run(tmp_path / "run")), tmp_path / "out")
    usual = (tmp_path / "out" / "README.md").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {usual}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not [name for name, _ in model.named_parameters() if "lora" in name or "base_layer" in name]
    tokenizer, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), load_base(ModelConfig(name="tiny")).tokenizer
    chat = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Où?"}]
    options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False}
    text = tokenizer.apply_chat_template(chat, **options)
    assert text == ours.apply_chat_template(chat, **options)
    assert tokenizer.encode(text) == ours.encode(text)


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_only_an_earlier_export_is_replaced(tmp_path: Path, export: Any) -> None:
    run = made_run(tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "README.md").write_text("mine")
    with pytest.raises(StorageError, match="something else than an export"):
        export(origin(run), tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["README.md"]
    for round in (1, 2):
        export(origin(run, round), tmp_path / "out")
    assert read_json(tmp_path / "out" / "fedse.json")["round"] == 2


@pytest.mark.parametrize("file", ["README.md", "LICENSE", ".git/HEAD"])
def test_an_export_that_was_changed_is_not_replaced(tmp_path: Path, file: str) -> None:
    run, out = made_run(tmp_path / "run"), tmp_path / "out"
    export_adapter(origin(run, 1), out)
    (out / file).parent.mkdir(exist_ok=True)
    (out / file).write_text("mine")
    with pytest.raises(StorageError, match=f"changed since, as {file}") as caught:
        export_adapter(origin(run, 2), out)
    assert "-o" in caught.value.mend
    assert (out / file).read_text() == "mine"
    assert read_json(out / "fedse.json")["round"] == 1


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run(tmp_path / "run")
    monkeypatch.setattr("fedse.export.folders.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_adapter(origin(run), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
