"""What a base model computes in."""

from __future__ import annotations

import pytest

from fedse.config import ModelConfig
from fedse.models import base
from fedse.models.base import arithmetic, load_base


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_the_arithmetic_is_told_without_the_model(name: str, dtype: str) -> None:
    config = ModelConfig.model_validate({"name": name, "dtype": dtype, "device": "cpu"})
    told = arithmetic(config)
    assert told.split(" ")[0] == str(load_base(config).dtype).removeprefix("torch.")
    assert "on cpu (" in told


def test_automatic_arithmetic_differs_with_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    config, told = ModelConfig(name="nano", device="cpu"), set()
    for flags in (frozenset(), frozenset({"avx512_bf16"})):
        monkeypatch.setattr(base, "cpu_flags", lambda flags=flags: flags)
        told.add(arithmetic(config).split(" ")[0])
    assert told == {"float32", "bfloat16"}
