from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import safetensors.numpy
import torch
from torch import nn

from fedse.adapters.state import AdapterState
from fedse.config import LoraConfig, ModelConfig
from fedse.errors import AdapterError, ModelError
from fedse.models.base import BaseModel, load_base
from fedse.models.lora import LoraModel

IDS = torch.arange(3, 43).reshape(2, 20)


def tiny(**lora: object) -> LoraModel:
    return LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig(**({"rank": 4} | lora)))


def random_state(lora: LoraModel, seed: int = 1) -> AdapterState:
    """An adapter whose B is not zero, so that it changes the model's output."""
    generator = np.random.default_rng(seed)
    tensors = {
        name: generator.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in lora.initial_state(0).tensors.items()
    }
    return AdapterState(tensors, lora.meta)


@torch.no_grad()
def logits(base: BaseModel) -> torch.Tensor:
    return base.model(IDS).logits


def base_weights(lora: LoraModel) -> dict[str, bytes]:
    return {path: layer.base_layer.weight.numpy().tobytes() for path, layer in lora.layers.items()}


@pytest.fixture
def lora() -> LoraModel:
    return tiny()


def test_adapts_every_linear_layer_but_the_output_embedding(lora: LoraModel) -> None:
    assert lora.meta.target_modules == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert len(lora.layers) == 14
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in lora.state().tensors


def test_trainable_is_the_float32_adapter_and_nothing_else() -> None:
    base = load_base(ModelConfig(name="tiny", device="cpu", dtype="bfloat16"))
    lora = LoraModel(base, LoraConfig(rank=4))
    requiring = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in requiring} == {id(parameter) for parameter in lora.trainable()}
    assert {parameter.dtype for parameter in lora.trainable()} == {torch.float32}
    assert base.dtype is torch.bfloat16
    assert [tuple(p.shape) for p in lora.trainable()] == [a.shape for a in lora.state().tensors.values()]


def test_initial_state_changes_nothing_and_depends_on_the_seed_alone(lora: LoraModel) -> None:
    plain = load_base(ModelConfig(name="tiny", device="cpu"))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = lora.initial_state(3), lora.initial_state(3), lora.initial_state(4)
    LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig(rank=4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == again.digest != other.digest
    lora.load(first)
    assert torch.equal(logits(lora.base), logits(plain))


def test_initial_a_is_kaiming_uniform(lora: LoraModel) -> None:
    for name, array in lora.initial_state(0).tensors.items():
        if "lora_A" in name:
            bound = 1 / np.sqrt(array.shape[1])
            assert np.abs(array).max() <= bound
            assert array.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
        else:
            assert not array.any()


def test_state_is_a_copy(lora: LoraModel) -> None:
    state = lora.state()
    digest = state.digest
    with torch.no_grad():
        lora.trainable()[0].add_(1)
    assert state.digest == digest != lora.state().digest


def test_load_then_state_returns_the_same_bytes(lora: LoraModel) -> None:
    state = random_state(lora)
    lora.load(state)
    assert lora.state().digest == state.digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: replace(s, meta=replace(s.meta, rank=8)), r"has shape \(4, 64\) instead of \(8, in\)"),
        (lambda s: replace(s, tensors={n: a[:, :3] for n, a in s.tensors.items()}), "has shape"),
        (lambda s: replace(s, meta=replace(s.meta, base_model="other")), "base_model 'other' instead of"),
        (lambda s: replace(s, meta=replace(s.meta, target_modules=("q_proj",))), "target_modules"),
        (lambda s: replace(s, tensors={}), "28 missing"),
        (lambda s: replace(s, tensors={f"x.{n}": a for n, a in s.tensors.items()}), "28 missing .* 28 unexpected"),
        (lambda s: replace(s, tensors={n: a.T for n, a in s.tensors.items()}), "has shape"),
        (lambda s: replace(s, tensors={n: a * np.nan for n, a in s.tensors.items()}), "NaN"),
        (lambda s: replace(s, tensors={n: a + np.inf for n, a in s.tensors.items()}), "infinite"),
    ],
)
def test_load_refuses_what_does_not_fit_and_leaves_the_adapter_alone(
    lora: LoraModel, damage: Callable[[AdapterState], AdapterState], message: str
) -> None:
    before = lora.state().digest
    with pytest.raises(AdapterError, match=message):
        lora.load(damage(random_state(lora)))
    assert lora.state().digest == before


def test_load_takes_over_rank_and_alpha() -> None:
    """One model serves adapters of several ranks in turn, each as a model that was made for it would."""
    lora, other = tiny(rank=4, alpha=8.0), tiny(rank=2, alpha=3.0)
    small, large = random_state(other), random_state(lora)
    other.load(small)
    lora.load(large)
    before = logits(lora.base)
    lora.load(small)
    assert (lora.meta, lora.meta.scaling) == (small.meta, 1.5)
    assert lora.state().digest == small.digest
    assert torch.equal(logits(lora.base), logits(other.base))
    with lora.merged(), other.merged():
        assert torch.equal(logits(lora.base), logits(other.base))
    for model in (lora, other):
        logits_of = model.base.model(IDS).logits
        logits_of.square().mean().backward()
    for ours, theirs in zip(lora.trainable(), other.trainable(), strict=True):
        assert ours.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    lora.load(large)
    assert torch.equal(logits(lora.base), before)
    assert [parameter.grad for parameter in lora.trainable()] == [None] * len(lora.trainable())


def test_an_initial_state_has_the_configured_rank_whatever_is_loaded() -> None:
    lora = tiny(rank=4, alpha=8.0)
    initial = lora.initial_state(3)
    lora.load(random_state(tiny(rank=2)))
    assert (lora.initial_state(3).digest, lora.initial_state(3).meta) == (initial.digest, initial.meta)


def test_merged_computes_the_same_in_plain_linear_layers(lora: LoraModel) -> None:
    lora.load(random_state(lora))
    unmerged = logits(lora.base)
    with lora.merged():
        assert all(type(lora.base.model.get_submodule(path)) is nn.Linear for path in lora.layers)
        torch.testing.assert_close(logits(lora.base), unmerged, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(lora.base), unmerged)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_base_weights_come_back_bit_for_bit_also_after_an_error(dtype: str) -> None:
    base = load_base(ModelConfig(name="tiny", device="cpu", dtype=dtype))  # type: ignore[arg-type]
    lora = LoraModel(base, LoraConfig(rank=4))
    lora.load(random_state(lora))
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}

    def leave_in_error() -> None:
        with lora.merged():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_in_error()
    after = base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(base.model.get_submodule(path) is layer for path, layer in lora.layers.items())


def test_a_second_merge_or_a_load_inside_a_merged_block_is_refused(lora: LoraModel) -> None:
    state = random_state(lora)
    with lora.merged():
        with pytest.raises(AdapterError, match="merged already"), lora.merged():
            pass
        assert lora.is_merged
        with pytest.raises(AdapterError, match="merged into the base"):
            lora.load(state)
    assert not lora.is_merged
    lora.load(state)


@pytest.mark.parametrize("names", ["embed_tokens", "lm_head", "q_prj", ("q_proj", "norm"), ()])
def test_unfit_target_modules_are_refused_before_the_model_is_changed(names: object) -> None:
    base = load_base(ModelConfig(name="tiny", device="cpu"))
    with pytest.raises(AdapterError):
        LoraModel(base, LoraConfig(rank=4, target_modules=names))  # type: ignore[arg-type]
    LoraModel(base, LoraConfig(rank=4, target_modules=("q_proj", "v_proj")))


def test_a_second_adapter_on_the_same_base_is_refused(lora: LoraModel) -> None:
    with pytest.raises(ModelError, match="carries an adapter already"):
        LoraModel(lora.base, LoraConfig(rank=4))


def test_peft_reads_our_tensors_and_computes_the_same(lora: LoraModel, tmp_path: Path) -> None:
    state = random_state(lora)
    lora.load(state)
    safetensors.numpy.save_file(dict(state.tensors), tmp_path / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": state.meta.rank,
        "lora_alpha": state.meta.alpha,
        "target_modules": list(state.meta.target_modules),
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    other = load_base(ModelConfig(name="tiny", device="cpu")).model
    wrapped = peft.PeftModel.from_pretrained(other, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(wrapped(IDS).logits, logits(lora.base), rtol=1e-6, atol=1e-6)
