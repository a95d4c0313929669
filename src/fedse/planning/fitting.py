"""Whether a plan fits a GPU, and what to change where it does not."""

from __future__ import annotations

from dataclasses import dataclass

from fedse.config import RunConfig
from fedse.planning.memory import MemoryPlan, Phase

#: Sizes of common cards, in GB.  Counted as 10⁹ bytes although their makers mean 2³⁰: the 7 % between the two are left
#: for the CUDA context, the libraries' workspaces and the allocator's gaps, which no formula tells.
CARDS = (24, 48, 80)
_GB = 10**9
_SMALLEST = 64  # tokens; the least that the configuration takes


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan on one size of memory.

    Attributes:
        gigabytes: of the device, 10⁹ bytes each.
        fits: all phases do.
        advice: what to change so that they do, the most effective first; empty if they do.
    """

    gigabytes: float
    fits: bool
    advice: tuple[str, ...]


def fit(plan: MemoryPlan, config: RunConfig, gigabytes: float) -> Fit:
    """Compare a plan with a device's memory.

    Args:
        plan: of the run.
        config: the run.
        gigabytes: memory of the device, 10⁹ bytes each.
    """
    room = int(gigabytes * _GB)
    if plan.peak <= room:
        return Fit(gigabytes, True, ())
    advice = []
    alone = max(phase.bytes for phase in plan.phases)
    if plan.workers > 1:
        advice.append(f"workers={max(1, room // alone)}: each process has a model of its own")
    advice += [_advice(plan, config, phase, room) for phase in plan.phases if phase.bytes > room]
    return Fit(gigabytes, False, tuple(dict.fromkeys(advice)))


def _advice(plan: MemoryPlan, config: RunConfig, phase: Phase, room: int) -> str:
    if phase.fixed > room:
        return "model.dtype=bfloat16: half the weights" if plan.dtype == "float32" else "a smaller base model"
    units = phase.units_within(room)
    if phase.name == "rollout":
        if units >= 1:
            return f"rollout.slots={units}: fewer episodes side by side"
        return f"rollout.max_context below {config.rollout.max_context}: shorter episodes"
    tokens = units // _SMALLEST * _SMALLEST
    if tokens < _SMALLEST:
        return "a smaller base model"
    if tokens >= config.rollout.max_context:
        return f"training.max_tokens={tokens}: smaller forward passes, the same update"
    return (
        f"training.max_tokens={tokens} with rollout.max_context={tokens}: shorter episodes, because one episode is "
        f"never split"
    )
