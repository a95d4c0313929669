"""The strategy that the page on federation shows as a whole file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.federation.strategies import Updates
from fedse.messages import Update

PAGE = Path(__file__).parents[2] / "docs" / "federation.md"
META = AdapterMeta(rank=1, alpha=2.0, target_modules=("q_proj",), base_model="0123456789abcdef")


def adapter(value: float) -> AdapterState:
    return AdapterState({f"q_proj.lora_{side}.weight": np.full((1, 1), value, np.float32) for side in "AB"}, META)


@pytest.fixture
def momentum() -> Any:
    shown: dict[str, Any] = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1], shown)
    return shown["Momentum"](beta=0.5)


def test_the_documented_strategy_keeps_the_direction_of_earlier_rounds(momentum: Any) -> None:
    state = momentum.initial(adapter(0.0), {})
    updates = Updates.of({"a": Update(adapter=adapter(1.0)), "b": Update(adapter=adapter(3.0))})
    state = momentum.absorb(state, updates)
    assert state.adapter().digest == adapter(2.0).digest
    state = momentum.absorb(state, Updates.of({"a": Update(adapter=state.adapter())}))
    assert state.adapter().digest == adapter(3.0).digest
