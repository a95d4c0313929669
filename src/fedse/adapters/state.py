"""A LoRA adapter as data: named arrays and what they were made for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedse.types import FloatArray

#: How the names of the two factors end in peft's files: A of shape (r, in), B of shape (out, r).
SUFFIX_A = ".lora_A.weight"
SUFFIX_B = ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class AdapterMeta:
    """What two adapters must agree on before they may be combined.

    Attributes:
        rank: LoRA rank r.
        alpha: LoRA alpha; the update is scaled by ``alpha / rank``.
        target_modules: sorted names of the adapted linear layers, as peft understands them.
        base_model: fingerprint of the frozen base weights; empty in an adapter of peft's, which does not know it.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    base_model: str

    @property
    def scaling(self) -> float:
        """The factor s in W + s·B·A."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class AdapterState:
    """A LoRA adapter as data: names in peft's file naming → float32 arrays, in sorted order, read-only.

    ``base_model.model.<path>.lora_A.weight`` has shape (r, in), ``….lora_B.weight`` has shape (out, r).
    """

    tensors: Mapping[str, FloatArray]
    meta: AdapterMeta

    def __post_init__(self) -> None:
        ordered: dict[str, FloatArray] = {}
        for name in sorted(self.tensors):
            array = np.ascontiguousarray(self.tensors[name], dtype=np.float32)
            if array is self.tensors[name] and array.flags.writeable:
                array = array.copy()
            array.flags.writeable = False
            ordered[name] = array
        object.__setattr__(self, "tensors", ordered)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and bytes: equal exactly when two adapters are byte-identical."""
        hasher = hashlib.sha256()
        for name, array in self.tensors.items():
            hasher.update(f"{name}{array.shape}".encode())
            hasher.update(array.tobytes())
        return hasher.hexdigest()

    @property
    def nbytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(array.nbytes for array in self.tensors.values())
