from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.loss import agent_loss
from fedse.learning.packing import pack
from fedse.models.attention_switch import attention_implementation
from fedse.models.lora import LoraModel
from fedse.models.rows import LEAST_ROWS, filled_up
from fedse.rollout.torch.cache import ATTENTION_NAME
from fedse.rollout.torch.decoder import SlotDecoder
from helpers.learning_reference import examples, records, tiny_lora


def test_rows_are_filled_up_to_few_numbers_and_by_little() -> None:
    filled = {rows: filled_up(rows) for rows in range(1, 2049)}
    assert all(filled[rows] >= max(rows, LEAST_ROWS) for rows in filled)
    assert all(filled_up(rows) == rows for rows in filled.values())
    assert max(filled[rows] / rows for rows in range(57, 2049)) <= 1.125
    assert max(filled[rows] - rows for rows in range(1, 57)) < 8
    assert len(set(filled.values())) < 60


@pytest.fixture
def lora() -> LoraModel:
    return tiny_lora()


@pytest.fixture
def shapes(lora: LoraModel) -> list[int]:
    """Rows of every forward pass through the model."""
    found: list[int] = []

    def note(_: Any, inputs: Any, options: dict[str, Any]) -> None:
        found.append(options["input_ids"].shape[1])

    lora.base.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)  # type: ignore[no-untyped-call]
    return found


class Products(TorchDispatchMode):
    """Notes how long the sides of the matrices are that attention multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm, torch.ops.aten.baddbmm_):
            for matrix in args[-2:]:
                self.sides |= set(matrix.shape[1:])
        return function(*args, **(kwargs or {}))


def test_passes_of_rollouts_and_updates_have_few_lengths(
    lora: LoraModel, shapes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fedse.learning.attention_kernel", None)  # so that torch multiplies
    with lora.merged(), attention_implementation(lora.base.model, ATTENTION_NAME):
        decoder = SlotDecoder(lora.base.model, 2, 512)
        for tokens in (1, 5, 13, 77, 131):
            decoder.forward([(0, list(range(5, 5 + tokens)))])
    rows = examples(records([61, 75, 90, 133, 300, 301], shared=40))
    with attention_implementation(lora.base.model, PACKED_ATTENTION), Products() as products:
        for batch in pack(rows, 400):
            agent_loss(lora.base.model, batch).backward()  # type: ignore[no-untyped-call]
    assert len(shapes) > 6
    assert all(filled_up(rows) == rows for rows in shapes)
    head = lora.base.model.config.head_dim
    assert len(products.sides) > 4
    assert all(side % 32 == 0 or side == head for side in products.sides)
