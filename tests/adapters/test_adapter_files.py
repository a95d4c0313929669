from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fedse.adapters.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, read_weights, save_adapter
from fedse.adapters.state import AdapterMeta
from fedse.errors import AdapterError
from helpers.small_adapters import A_NAME, META, random_state, with_tensor

STATE = random_state(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(STATE, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_comes_back_bit_for_bit(folder: Path) -> None:
    loaded = load_adapter(folder, expect=META)
    assert loaded.digest == STATE.digest
    assert loaded.meta == META


def test_equal_adapters_make_equal_bytes(folder: Path, tmp_path: Path) -> None:
    for _ in range(5):
        save_adapter(random_state(5), tmp_path / "again")
        for name in (WEIGHTS_NAME, CONFIG_NAME):
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_an_alpha_with_a_fraction_survives(tmp_path: Path) -> None:
    state = random_state(1, meta=replace(META, alpha=2.5))
    save_adapter(state, tmp_path / "a")
    assert load_adapter(tmp_path / "a").meta.alpha == 2.5


def test_peft_computes_the_same_logits_from_the_folder(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    from fedse.config import LoraConfig, ModelConfig
    from fedse.models.base import load_base
    from fedse.models.lora import LoraModel

    ids = torch.arange(3, 40).unsqueeze(0)
    lora = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig(rank=4, alpha=8.0))
    generator = np.random.default_rng(0)
    fresh = lora.initial_state(0)
    state = replace(
        fresh, tensors={n: generator.normal(0, 0.1, t.shape).astype(np.float32) for n, t in fresh.tensors.items()}
    )
    lora.load(state)
    save_adapter(state, tmp_path / "adapter", base_name="tiny")
    plain = load_base(ModelConfig(name="tiny", device="cpu")).model
    with torch.no_grad():
        ours, bare = lora.base.model(ids).logits, plain(ids).logits
        loaded = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
        theirs = loaded(ids).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
    assert not torch.allclose(bare, ours, atol=1e-3)
    assert json.loads((tmp_path / "adapter" / CONFIG_NAME).read_text())["base_model_name_or_path"] == "tiny"


def refused(folder: Path, file: str, expect: AdapterMeta | None = None) -> str:
    with pytest.raises(AdapterError) as caught:
        load_adapter(folder, expect=expect)
    assert str(folder / file) in caught.value.what
    assert caught.value.mend
    return caught.value.what


@pytest.mark.parametrize("file", [WEIGHTS_NAME, CONFIG_NAME])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    refused(folder, file)


def test_every_truncation_of_the_weights_is_found(folder: Path) -> None:
    whole = (folder / WEIGHTS_NAME).read_bytes()
    for length in range(0, len(whole), 7):
        (folder / WEIGHTS_NAME).write_bytes(whole[:length])
        assert "damaged or truncated" in refused(folder, WEIGHTS_NAME)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"peft_type": "LORA"}'])
def test_a_damaged_configuration_is_found(folder: Path, content: bytes) -> None:
    (folder / CONFIG_NAME).write_bytes(content)
    refused(folder, CONFIG_NAME)


@pytest.mark.parametrize("change", [{"r": 3}, {"lora_alpha": 9}, {"target_modules": ["v_proj"]}, {"use_rslora": True}])
def test_a_configuration_that_contradicts_the_weights_is_found(folder: Path, change: dict[str, object]) -> None:
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "contradicts" in refused(folder, CONFIG_NAME)


def test_weights_of_another_dtype_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    ours = safetensors.safe_open(path, "numpy").metadata()
    path.write_bytes(safetensors.numpy.save({A_NAME: np.ones((2, 5), np.int8)}, metadata=ours))
    assert "float32" in refused(folder, WEIGHTS_NAME)


def test_a_part_of_an_adapter_must_say_what_it_was_made_for(folder: Path) -> None:
    (folder / WEIGHTS_NAME).write_bytes(safetensors.numpy.save(dict(STATE.tensors)))
    with pytest.raises(AdapterError, match="not written by fedse"):
        read_weights(folder / WEIGHTS_NAME)


@pytest.mark.parametrize("metadata", ["{", "[]", "{}", '{"schema_version": "x"}'])
def test_damaged_metadata_is_found(folder: Path, metadata: str) -> None:
    (folder / WEIGHTS_NAME).write_bytes(safetensors.numpy.save(dict(STATE.tensors), metadata={"fedse": metadata}))
    assert "damaged metadata" in refused(folder, WEIGHTS_NAME)


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    ours = json.loads(safetensors.safe_open(folder / WEIGHTS_NAME, "numpy").metadata()["fedse"])
    newer = json.dumps(ours | {"schema_version": 2})
    (folder / WEIGHTS_NAME).write_bytes(safetensors.numpy.save(dict(STATE.tensors), metadata={"fedse": newer}))
    assert "newer fedse" in refused(folder, WEIGHTS_NAME)


def test_missing_tensors_and_wrong_shapes_are_found(folder: Path) -> None:
    ours = safetensors.safe_open(folder / WEIGHTS_NAME, "numpy").metadata()
    tensors = dict(STATE.tensors)
    tensors[A_NAME] = np.ones((3, 5), np.float32)
    (folder / WEIGHTS_NAME).write_bytes(safetensors.numpy.save(tensors, metadata=ours))
    assert "shape (3, 5)" in refused(folder, WEIGHTS_NAME)
    del tensors[A_NAME]
    (folder / WEIGHTS_NAME).write_bytes(safetensors.numpy.save(tensors, metadata=ours))
    assert "no partner" in refused(folder, WEIGHTS_NAME)


@pytest.mark.parametrize("change", [{"rank": 3}, {"base_model": "other"}, {"alpha": 1.0}])
def test_an_adapter_that_does_not_fit_is_refused(folder: Path, change: dict[str, object]) -> None:
    with pytest.raises(AdapterError, match="does not fit") as caught:
        load_adapter(folder, expect=replace(META, **change))
    assert str(folder) in caught.value.what


def test_an_adapter_with_nan_is_not_saved_and_the_old_one_stays(folder: Path) -> None:
    broken = with_tensor(STATE, A_NAME, np.full((2, 5), np.nan, np.float32))
    with pytest.raises(AdapterError, match="NaN"):
        save_adapter(broken, folder)
    assert load_adapter(folder).digest == STATE.digest
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
