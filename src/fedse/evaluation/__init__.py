"""Success rates on held-out tasks, with their uncertainty."""

from fedse.evaluation.rates import macro_average, pooled, success_rate, task_weighted_average

__all__ = ["macro_average", "pooled", "success_rate", "task_weighted_average"]
