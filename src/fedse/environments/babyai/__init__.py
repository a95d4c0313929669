"""BabyAI as AgentGym serves it: MiniGrid's worlds in words."""

from fedse.environments.babyai.environment import BabyAI

__all__ = ["BabyAI"]
