"""Activations and rotations whose numbers do not depend on how many rows are computed together.

Torch shares the numbers of a tensor among threads, wherever a share may end, and computes what is left of a vector
register at a share's end by other functions than the rest, which differ in the last bit.  One or two shares end
between registers with the widths that models have; three and more do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fedse.models.module_swap import swapped


class _OneThread(nn.Module):
    """A module without parameters, on one thread."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def forward(self, *given: Any, **options: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._module(*given, **options)
        finally:
            torch.set_num_threads(threads)


@contextmanager
def steady(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block rows do not depend on each other through activations and rotations, on a CPU."""
    if model.device.type != "cpu" or torch.get_num_threads() <= 2:
        yield
        return
    found = {path: module for path, module in model.named_modules() if path.endswith((".act_fn", ".rotary_emb"))}
    with swapped(model, {path: _OneThread(module) for path, module in found.items()}):
        yield
