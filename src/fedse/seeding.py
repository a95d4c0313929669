"""Random streams derived from names, so that no global generator is ever used.

``derive_seed(seed, "client-a", 3, "explore")`` is a pure function of its arguments: the same run gives the same streams
whatever ran before, in whatever order, on whatever process.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from a path of names and numbers."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts: str | int) -> np.random.Generator:
    """A numpy generator of its own for this path."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))


def python_random(*parts: str | int) -> random.Random:
    """A ``random.Random`` of its own for this path."""
    return random.Random(derive_seed(*parts))
