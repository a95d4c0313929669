"""Control variates in a local update, as SCAFFOLD has them (Karimireddy et al. 2020, arXiv 1910.06378)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fedse.types import FloatArray


class Control:
    """Corrects every gradient of an update by c − c_k, and takes the mean of what the gradients were.

    Args:
        correction: name of a tensor → c − c_k, in its shape; tensors that are left out are not corrected.
    """

    def __init__(self, correction: Mapping[str, FloatArray]) -> None:
        self._correction = {name: torch.tensor(array) for name, array in correction.items()}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    @torch.no_grad()
    def correct(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Once for every step, when the gradients are complete and before they are clipped."""
        self._steps += 1
        for name, parameter in parameters.items():
            gradient = parameter.grad
            assert gradient is not None
            self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()
            if name in self._correction:
                gradient.add_(self._correction[name].to(gradient.device))

    def mean(self) -> dict[str, FloatArray]:
        """The mean gradient of the steps, without the corrections; empty if there was none."""
        return {name: (total / self._steps).cpu().numpy() for name, total in self._sums.items()}
