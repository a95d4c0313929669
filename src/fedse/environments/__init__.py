"""Text environments: the contract, the registry, and the tools that check them."""

from fedse.environments.base import Environment, EnvironmentSpec, Expert, PromptStyle, StepResult, TaskTraits
from fedse.environments.registry import environment_class, environment_names, make

__all__ = [
    "Environment",
    "EnvironmentSpec",
    "Expert",
    "PromptStyle",
    "StepResult",
    "TaskTraits",
    "environment_class",
    "environment_names",
    "make",
]
