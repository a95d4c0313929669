"""The maze of LMRL-Gym and AgentGym, with generated mazes in the same style."""

from fedse.environments.maze.environment import Maze

__all__ = ["Maze"]
