"""Strategies: what a server makes of the sites' updates.  Each is one file."""

from fedse.federation.strategies.base import Sent, Strategy
from fedse.federation.strategies.registry import make_strategy, register, strategy_class, strategy_names
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import GLOBAL, State

__all__ = [
    "GLOBAL",
    "Sent",
    "State",
    "Strategy",
    "Updates",
    "make_strategy",
    "register",
    "strategy_class",
    "strategy_names",
]
