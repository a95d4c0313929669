"""Whether a plan fits a GPU, and what to change where it does not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from fedse.config import RunConfig
from fedse.planning.memory import MemoryPhase, MemoryPlan, plan_memory

#: Sizes of common cards, in GB.  Counted as 10⁹ bytes although their makers mean 2³⁰: the 7 % between the two are left
#: for the CUDA context, the libraries' workspaces and the allocator's gaps, which no formula tells.
CARDS = (24, 48, 80)
_GB = 10**9
_SMALLEST = 64  # tokens; the least that the configuration takes


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether all phases of a plan fit a device with so many gigabytes of 10⁹ bytes.

    Attributes:
        advice: what to change so that they do, the most effective first; empty if they do.
    """

    gigabytes: float
    fits: bool
    advice: tuple[str, ...]


def fit(plan: MemoryPlan, config: RunConfig, gigabytes: float) -> Fit:
    """Compare the plan of a run with a device's memory, in gigabytes of 10⁹ bytes."""
    room = int(gigabytes * _GB)
    if plan.peak <= room:
        return Fit(gigabytes, True, ())
    advice = []
    alone = max(phase.bytes for phase in plan.phases)
    if plan.workers > 1:
        advice.append(f"workers={max(1, room // alone)}: each process has a model of its own")
    advice += [_advice(plan, config, phase, room) for phase in plan.phases if phase.bytes > room]
    return Fit(gigabytes, False, tuple(dict.fromkeys(advice)))


def _advice(plan: MemoryPlan, config: RunConfig, phase: MemoryPhase, room: int) -> str:
    if phase.fixed > room:
        return "model.dtype=bfloat16: half the weights" if plan.dtype == "float32" else "a smaller base model"
    return _rollout_advice(plan, config, room) if phase.name == "rollout" else _training_advice(plan, config, room)


def _rollout_advice(plan: MemoryPlan, config: RunConfig, room: int) -> str:
    def fits(slots: int) -> bool:
        return _replanned(plan, config, rollout={"slots": slots}).phases[0].bytes <= room

    if slots := _most(fits, config.rollout.slots):
        return f"rollout.slots={slots}: fewer episodes side by side"
    return f"rollout.max_context below {config.rollout.max_context}: shorter episodes"


def _training_advice(plan: MemoryPlan, config: RunConfig, room: int) -> str:
    def fits(units: int, *, shorter: bool = False) -> bool:
        tokens = units * _SMALLEST
        context = min(tokens, config.rollout.max_context) if shorter else config.rollout.max_context
        changed = _replanned(plan, config, training={"max_tokens": tokens}, rollout={"max_context": context})
        return changed.phases[1].bytes <= room

    longest = max(config.training.max_tokens, config.rollout.max_context)
    if units := _most(fits, config.training.max_tokens // _SMALLEST):
        return f"training.max_tokens={units * _SMALLEST}: smaller forward passes, the same update"
    if units := _most(lambda units: fits(units, shorter=True), longest // _SMALLEST):
        return (
            f"training.max_tokens={units * _SMALLEST} with rollout.max_context={units * _SMALLEST}: shorter episodes, "
            "because one episode is never split"
        )
    return "a smaller base model"


def _replanned(plan: MemoryPlan, config: RunConfig, **changes: dict[str, int]) -> MemoryPlan:
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    return plan_memory(config.model_copy(update=sections), plan.architecture, device=plan.device, dtype=plan.dtype)


def _most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to a limit that fits, given that every smaller one does; 0 if none."""
    return bisect_left(range(1, limit + 1), True, key=lambda number: not fits(number))
