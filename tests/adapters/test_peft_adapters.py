"""Adapters that peft made: each of its settings is honoured or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import safetensors.torch
import torch

from fedse.adapters.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, save_adapter
from fedse.config import LoraConfig, ModelConfig
from fedse.errors import AdapterError
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.models.tiny import tiny_model
from helpers.small_adapters import random_state

IDS = torch.arange(3, 40).unsqueeze(0)
PLAIN = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def made(folder: Path, *, dtype: torch.dtype | None = None, **settings: Any) -> torch.Tensor:
    """An adapter that peft makes, trains a little and writes; returns the logits that it has there."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(tiny_model(), peft.LoraConfig(**PLAIN | settings))
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    if dtype is not None:
        model.to(dtype)
    model.eval().save_pretrained(folder)
    with torch.no_grad():
        logits: torch.Tensor = model.float()(IDS).logits
    return logits


def ours(folder: Path) -> torch.Tensor:
    """The logits of the same adapter here."""
    state = load_adapter(folder)
    meta = state.meta
    config = LoraConfig(rank=meta.rank, alpha=meta.alpha, target_modules=meta.target_modules)
    lora = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), config)
    lora.load(state)
    assert lora.state().meta.base_model == lora.base.fingerprint
    with torch.no_grad():
        logits: torch.Tensor = lora.base.model(IDS).logits
    return logits


HONOURED: dict[str, dict[str, Any]] = {
    "plain": {},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 40, "layers.1.self_attn.q_proj": 1}},
    "rank_pattern": {"rank_pattern": {"down_proj": 7, ".*0.*q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
    "use_rslora": {"use_rslora": True, "rank_pattern": {"v_proj": 9}},
    "a pattern for names": {"target_modules": r".*\.self_attn\.(q|k)_proj"},
    "gaussian": {"init_lora_weights": "gaussian"},
}


@pytest.mark.parametrize("setting", HONOURED)
def test_an_adapter_of_peft_computes_what_it_computes_there(tmp_path: Path, setting: str) -> None:
    expected = made(tmp_path, **HONOURED[setting])
    found = ours(tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(tiny_model()(IDS).logits, expected, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_are_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = made(tmp_path, dtype=dtype)
    stored = safetensors.torch.load_file(tmp_path / WEIGHTS_NAME)
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    state = load_adapter(tmp_path)
    for name, tensor in stored.items():
        np.testing.assert_array_equal(state.tensors[name], tensor.float().numpy())
    torch.testing.assert_close(ours(tmp_path), expected, rtol=1e-2, atol=2e-2)  # the base is rounded there, too


REFUSED: dict[str, Any] = {
    "layers_to_transform": [1],
    "layer_replication": [[0, 2], [1, 2]],
    "bias": "all",
    "fan_in_fan_out": True,
    "use_dora": True,
    "lora_bias": True,
    "modules_to_save": ["lm_head"],
    "init_lora_weights": "pissa",
    "target_parameters": ["mlp.experts.down_proj"],
    "trainable_token_indices": [1],
    "a_field_of_tomorrow": 3,
    "peft_type": "IA3",
}


@pytest.mark.parametrize("field", REFUSED)
@pytest.mark.parametrize("writer", ["peft", "fedse"])
def test_what_is_not_computed_is_refused_by_name(tmp_path: Path, field: str, writer: str) -> None:
    if writer == "peft":
        made(tmp_path)
    else:
        save_adapter(random_state(5), tmp_path)
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: REFUSED[field]}))
    with pytest.raises(AdapterError, match=field) as caught:
        load_adapter(tmp_path)
    assert str(path) in caught.value.what


@pytest.mark.parametrize(
    "change", [{"alpha_pattern": {"q_proj": 1}}, {"rank_pattern": {"q_proj": 1}}, {"use_rslora": True}]
)
def test_what_our_own_files_cannot_mean_contradicts_them(tmp_path: Path, change: dict[str, Any]) -> None:
    save_adapter(random_state(5), tmp_path)
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AdapterError, match="contradicts"):
        load_adapter(tmp_path)


@pytest.mark.parametrize(
    "change", [{"r": None}, {"lora_alpha": "x"}, {"alpha_pattern": {"(": 1}}, {"alpha_pattern": 3}, {"lora_alpha": 0}]
)
def test_a_damaged_configuration_of_peft_is_found(tmp_path: Path, change: dict[str, Any]) -> None:
    made(tmp_path)
    path = tmp_path / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AdapterError):
        load_adapter(tmp_path)


def test_an_adapter_for_another_model_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    made(tmp_path)
    state = load_adapter(tmp_path)
    base = load_base(ModelConfig(name="nano", device="cpu"))
    config = LoraConfig(rank=state.meta.rank, alpha=state.meta.alpha, target_modules=state.meta.target_modules)
    with pytest.raises(AdapterError, match="does not belong to this model"):
        LoraModel(base, config).load(state)
