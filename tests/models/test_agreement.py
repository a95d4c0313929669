"""Models are taken or refused by what they compute: see :mod:`fedse.models.agreement`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fedse.config import LoraConfig, ModelConfig, TrainingConfig
from fedse.errors import ModelError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.loss import check_packing
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients, local_update
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.models.tiny import tiny_model
from fedse.rollout.torch.decoder import check_slots
from helpers.learning_reference import (
    SMALL,
    assert_same,
    examples,
    gradients,
    lora_on,
    records,
    reference_loss,
    with_random_adapter,
)

#: Families whose own signatures, head widths or factors are taken into account.
TAKEN: dict[str, dict[str, Any]] = {
    "llama": {},
    "stablelm": {},
    "nemotron": {},
    "gpt_neox": {},
    "granite": {"logits_scaling": 6.0, "attention_multiplier": 0.02},
    "cohere": {"logit_scale": 0.25},
    "deepseek_v3": {
        "head_dim": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 4,
        "v_head_dim": 6,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "num_key_value_heads": 4,
        "n_routed_experts": 2,
        "num_experts_per_tok": 1,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 8,
    },
}
#: Families that compute something else, and what they are told.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gemma2": ({"final_logit_softcapping": 0.001}, "changes its logits after the output embedding"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "no attention over tokens .conv."),
    "jamba": ({"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}, "no attention over tokens"),
    "mamba": ({}, "no attention over tokens .linear_attention."),
    "gpt_oss": ({"num_local_experts": 2, "num_experts_per_tok": 1}, "asks for s_aux"),
    "bloom": ({}, "does not look its attention function up"),
    "diffllama": ({}, "computes other logits than its own forward pass"),
    "gemma4_text": ({"vocab_size_per_layer_input": 256}, "no one shape of attention"),
}


def random_model(family: str, more: dict[str, Any]) -> PreTrainedModel:
    """A small one, whose weights are large enough for differences to show."""
    small = SMALL | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if family == "gpt_neox":
        small.pop("num_key_value_heads")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**small | more)).eval()
    return model.requires_grad_(False)


@pytest.mark.parametrize("family", TAKEN)
def test_a_family_is_taken_whatever_its_signatures(family: str) -> None:
    model = random_model(family, TAKEN[family])
    check_packing(model)
    check_slots(model, 64)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_computes_something_else_is_refused_in_words(family: str) -> None:
    more, words = REFUSED[family]
    model = random_model(family, more)

    def check() -> None:
        check_packing(model)
        check_slots(model, 64)

    with pytest.raises(ModelError, match=words):
        check()


def test_a_window_must_hold_all_that_a_slot_may_come_to_hold() -> None:
    model = random_model("mistral", {"sliding_window": 128})
    check_packing(model)
    check_slots(model, 128)
    with pytest.raises(ModelError, match="sliding window of 128 tokens, shorter than a trajectory of 129"):
        check_slots(model, 129)


class _Shifted(torch.nn.Module):
    """Rotations at positions that depend on how many tokens are computed together, as a wrong packing would."""

    def __init__(self, plain: torch.nn.Module) -> None:
        super().__init__()
        self._plain = plain

    def forward(self, states: torch.Tensor, position_ids: torch.Tensor) -> Any:
        return self._plain(states, position_ids + states.shape[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_difference_in_what_is_computed_is_found_and_rounding_is_none(dtype: torch.dtype) -> None:
    model = tiny_model().eval().requires_grad_(False).to(dtype)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(8)  # attention as sharp as that of a trained model
    check_packing(model)
    check_slots(model, 64)
    odd = tiny_model().eval().requires_grad_(False).to(dtype)
    odd.load_state_dict(model.state_dict())
    # Relative positions alone count, so all that is off is what a pass reads of the passes before.
    odd.model.rotary_emb = _Shifted(odd.model.rotary_emb)  # type: ignore[assignment]
    with pytest.raises(ModelError, match="a rollout of up to 64 tokens computes other logits"):
        check_slots(odd, 64)


def test_what_was_found_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().eval()
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        check_packing(model)
        check_slots(model, 64)
    assert len(passes) == 2  # one for each way


def test_another_adapter_between_two_ways_is_no_difference() -> None:
    lora = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig(rank=4))
    check_slots(lora.base.model, 64)
    with_random_adapter(lora, scale=1.0)
    check_packing(lora.base.model)


def test_weights_that_are_not_finite_are_not_judged() -> None:
    model = tiny_model().eval().requires_grad_(False)
    model.model.layers[0].self_attn.q_proj.weight.fill_(float("nan"))
    check_packing(model)


def test_an_update_refuses_what_it_would_not_compute() -> None:
    lora = lora_on(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=0.001))
    with pytest.raises(ModelError, match="changes its logits"):
        local_update(lora, examples(records((30, 30))), TrainingConfig(steps=1), seed=0)


def test_the_gradients_of_wide_keys_and_scaled_logits_are_the_models_own() -> None:
    made = records((30, 25), shared=6)
    for family in ("granite", "deepseek_v3", "stablelm"):
        small = SMALL | (TAKEN[family])
        lora = lora_on(CONFIG_MAPPING[family](**small))
        reference_loss(lora, made).backward()
        expected = gradients(lora)
        with attention_implementation(lora.base.model, PACKED_ATTENTION):
            accumulate_gradients(lora, pack(examples(made), 4096))
        assert_same(gradients(lora), expected, 1e-5)
