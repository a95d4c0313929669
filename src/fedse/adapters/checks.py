"""What an adapter must be before anything is computed with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState

_SHOWN = 3


def meta_problems(found: AdapterMeta, expected: AdapterMeta) -> list[str]:
    """Differences between what two adapters were made for, in words; empty if they may be combined."""
    return [
        f"{field} {getattr(found, field)!r} instead of {getattr(expected, field)!r}"
        for field in ("rank", "alpha", "target_modules", "base_model")
        if getattr(found, field) != getattr(expected, field)
    ]


def state_problems(state: AdapterState) -> list[str]:
    """What makes a state no LoRA adapter by itself: odd names, a factor without its partner, shapes, NaN, infinity."""
    problems = [] if state.tensors else ["it holds no tensors"]
    rank = state.meta.rank
    for name, array in state.tensors.items():
        if name.endswith(SUFFIX_A):
            partner, axis, shape = name.removesuffix(SUFFIX_A) + SUFFIX_B, 0, f"({rank}, in)"
        elif name.endswith(SUFFIX_B):
            partner, axis, shape = name.removesuffix(SUFFIX_B) + SUFFIX_A, 1, f"(out, {rank})"
        else:
            problems.append(f"{name} is neither a lora_A nor a lora_B weight")
            continue
        if partner not in state.tensors:
            problems.append(f"{name} has no partner {partner}")
        if array.ndim != 2 or array.shape[axis] != rank or 0 in array.shape:
            problems.append(f"{name} has shape {array.shape} instead of {shape}")
    return problems + finite_problems(state)


def finite_problems(state: AdapterState) -> list[str]:
    """Tensors with NaN or infinite values."""
    return [
        f"{name} holds NaN or infinite values" for name, array in state.tensors.items() if not np.isfinite(array).all()
    ]


def shape_problems(found: AdapterState, expected: AdapterState) -> list[str]:
    """Tensors that are missing, not expected, or of another shape than in ``expected``."""
    problems = [f"{name} is missing" for name in sorted(expected.tensors.keys() - found.tensors.keys())]
    problems += [f"{name} is not expected" for name in sorted(found.tensors.keys() - expected.tensors.keys())]
    for name in sorted(expected.tensors.keys() & found.tensors.keys()):
        shape, wanted = found.tensors[name].shape, expected.tensors[name].shape
        if shape != wanted:
            problems.append(f"{name} has shape {shape} instead of {wanted}")
    return problems


def in_words(problems: Sequence[str]) -> str:
    """The first problems and how many more there are."""
    more = len(problems) - _SHOWN
    return "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
