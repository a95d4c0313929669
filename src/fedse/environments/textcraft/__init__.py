"""TextCraft of ADaPT and AgentGym: gather and craft after Minecraft's recipes."""

from fedse.environments.textcraft.environment import TextCraft

__all__ = ["TextCraft"]
