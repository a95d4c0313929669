"""What a run needs, told before it runs: its sites' tasks, and its memory.  No weights are loaded."""

from fedse.planning.architecture import Architecture, architecture_of
from fedse.planning.check import SiteCheck, check_run, check_runs
from fedse.planning.fitting import Fit, fit
from fedse.planning.memory import Item, MemoryPhase, MemoryPlan, plan_memory, plan_of

__all__ = [
    "Architecture",
    "Fit",
    "Item",
    "MemoryPhase",
    "MemoryPlan",
    "SiteCheck",
    "architecture_of",
    "check_run",
    "check_runs",
    "fit",
    "plan_memory",
    "plan_of",
]
