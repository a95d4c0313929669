from __future__ import annotations

import numpy as np
import pytest

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer, renderer_for
from fedse.config import LoraConfig, ModelConfig
from fedse.models.base import load_base
from fedse.models.lora import LoraModel


@pytest.fixture
def lora() -> LoraModel:
    """A tiny model with an adapter that changes its output."""
    model = LoraModel(load_base(ModelConfig(name="tiny")), LoraConfig(rank=4, alpha=8))
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.normal(0, 0.2, array.shape).astype(np.float32)
        for name, array in model.initial_state(0).tensors.items()
    }
    model.load(AdapterState(tensors, model.meta))
    return model


@pytest.fixture
def renderer(lora: LoraModel) -> Renderer:
    return renderer_for(lora.base.tokenizer)
