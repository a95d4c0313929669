"""What a site tells of its layers' inputs, where a strategy asks for it; see :mod:`fedse.adapters.moments`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from fedse.adapters.moments import directions
from fedse.errors import TrainingError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.examples import Example
from fedse.learning.loss import agent_loss
from fedse.learning.packing import pack
from fedse.models.attention_switch import attention_implementation
from fedse.models.lora import LoraModel
from fedse.types import FloatArray

#: So many examples are enough: the moments are means over tokens, and every token of an example counts.
_EXAMPLES = 32


def input_moments(
    lora: LoraModel, examples: Sequence[Example], seen: int | Literal["adapter"], max_tokens: int
) -> dict[str, FloatArray]:
    """Second moments of the inputs of every adapted layer at the tokens that carry loss.

    Args:
        lora: carries the adapter that takes part in the forward pass.
        examples: the first ones that carry loss are taken.
        seen: through so many random directions, or "adapter": through the rows of the adapter's A.
        max_tokens: of one forward pass.

    Returns:
        Layer, named as in the adapter → moments, shape (m, m).

    Raises:
        TrainingError: if no example carries loss.
    """
    learnable = [example for example in examples if example.losses()][:_EXAMPLES]
    if not learnable:
        raise TrainingError("there are no inputs to tell of: no example carries loss", "give the site demonstrations")
    sums: dict[str, torch.Tensor] = {}
    tokens = 0
    model = lora.base.model
    through: dict[str, torch.Tensor] = {}
    for name, path in lora.names_of_layers.items():
        factor_a, _ = lora.factors(path)
        through[path] = (
            factor_a.detach() if seen == "adapter" else torch.tensor(directions(name, factor_a.shape[1], seen))
        ).to(lora.base.device)
    positions: torch.Tensor | None = None

    def watch(path: str) -> Any:
        def note(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            assert positions is not None
            rows = inputs[0][0].index_select(0, positions).float() @ through[path].t()
            sums[path] = sums.get(path, 0) + (rows.t() @ rows).double()

        return note

    handles = [layer.register_forward_pre_hook(watch(path)) for path, layer in lora.layers.items()]
    try:
        with torch.no_grad(), attention_implementation(model, PACKED_ATTENTION):
            for micro in pack(learnable, max_tokens):
                micro = micro.to(lora.base.device)
                positions = micro.loss_positions
                tokens += len(positions)
                agent_loss(model, micro)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (sums[path] / tokens).float().cpu().numpy() for name, path in lora.names_of_layers.items()}
