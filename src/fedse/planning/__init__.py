"""What a run needs, told before it runs: its sites' tasks, and its memory.  No weights are loaded."""

from fedse.planning.architecture import architecture_of
from fedse.planning.check import check_run, check_runs
from fedse.planning.fitting import fit
from fedse.planning.memory import MemoryPlan, plan_memory, plan_of

__all__ = ["MemoryPlan", "architecture_of", "check_run", "check_runs", "fit", "plan_memory", "plan_of"]
