"""Small adapters for tests of the federation: two layers, rank 2."""

from __future__ import annotations

import numpy as np

from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.messages import Update

META = AdapterMeta(rank=2, alpha=4.0, target_modules=("k_proj", "q_proj"), base_model="0123456789abcdef")
SHAPES = {
    "base_model.model.layers.0.q_proj.lora_A.weight": (2, 5),
    "base_model.model.layers.0.q_proj.lora_B.weight": (3, 2),
    "base_model.model.layers.0.k_proj.lora_A.weight": (2, 4),
    "base_model.model.layers.0.k_proj.lora_B.weight": (6, 2),
}
A_NAME = "base_model.model.layers.0.q_proj.lora_A.weight"


def random_state(seed: int, *, meta: AdapterMeta = META) -> AdapterState:
    generator = np.random.default_rng(seed)
    return AdapterState({name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}, meta)


def with_tensor(state: AdapterState, name: str, array: np.ndarray) -> AdapterState:
    return AdapterState({**state.tensors, name: array}, state.meta)


def update(seed: int, **scalars: float) -> Update:
    return Update(adapter=random_state(seed), scalars=scalars)
