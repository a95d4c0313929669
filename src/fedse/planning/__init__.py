"""What a run needs, told before it runs: its sites' tasks, and its memory.  No weights are loaded."""

from fedse.planning.architecture import Architecture, architecture_of
from fedse.planning.check import SiteCheck, check_run
from fedse.planning.fitting import Fit, fit
from fedse.planning.memory import Item, MemoryPlan, Phase, plan_memory

__all__ = [
    "Architecture",
    "Fit",
    "Item",
    "MemoryPlan",
    "Phase",
    "SiteCheck",
    "architecture_of",
    "check_run",
    "fit",
    "plan_memory",
]
