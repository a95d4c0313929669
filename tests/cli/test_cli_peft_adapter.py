from __future__ import annotations

import json
from pathlib import Path

import peft

from fedse.models.tiny import tiny_model, tiny_tokenizer
from helpers.cli_calls import Cli


def test_an_adapter_of_peft_is_evaluated_and_played(cli: Cli, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    peft.get_peft_model(tiny_model(), peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
        tmp_path / "adapter"
    )
    path = tmp_path / "adapter" / "adapter_config.json"
    named = json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    path.write_text(json.dumps(named))
    result = cli("eval", tmp_path / "adapter", "--env", "wordle", "--tasks", "1", "--quiet")
    assert result.exit_code == 0, result.output
    result = cli("play", "wordle", "--who", "model", "--adapter", tmp_path / "adapter")
    assert result.exit_code == 0, result.output
