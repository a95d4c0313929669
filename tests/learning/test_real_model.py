from __future__ import annotations

import pytest

from fedse.config import LoraConfig, ModelConfig
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients
from fedse.models import catalogue
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import load_base
from fedse.models.fused_lora import fused_lora
from fedse.models.lora import LoraModel
from helpers.learning_reference import assert_same, examples, gradients, records, reference_loss, with_random_adapter


@pytest.mark.slow
def test_packed_is_padded_on_the_default_model() -> None:
    if not any(model.name == "smollm2-135m" and model.installed for model in catalogue.installed()):
        pytest.skip("the default model is not installed: fedse model pull smollm2-135m")
    lora = LoraModel(load_base(ModelConfig(device="cpu", dtype="float32")), LoraConfig())
    with_random_adapter(lora, scale=0.005)
    batch = records((60, 45, 70), shared=20)
    expected_loss = reference_loss(lora, batch)
    expected_loss.backward()
    expected = gradients(lora)
    with fused_lora(lora), attention_implementation(lora.base.model, PACKED_ATTENTION):
        loss = accumulate_gradients(lora, pack(examples(batch), 4096))
    assert loss == pytest.approx(float(expected_loss.detach()), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    assert_same(gradients(lora), expected, 1e-5 * largest)
