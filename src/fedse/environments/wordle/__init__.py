"""LMRL-Gym's and AgentGym's Wordle over freely available words."""

from fedse.environments.wordle.environment import Wordle

__all__ = ["Wordle"]
