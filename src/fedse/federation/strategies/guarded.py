"""Rules that hold against some hostile sites, as long as there are enough others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedse.adapters.state import AdapterState
from fedse.errors import ConfigError, UpdateRejectedError
from fedse.federation.strategies.stepping import Central
from fedse.federation.strategies.updates import Updates
from fedse.runs.rounds import State
from fedse.texts import counted


@dataclass(frozen=True)
class Guarded(Central):
    """A rule that some hostile sites cannot mislead, while there are enough others.

    Attributes:
        hostile: f, how many of the sites of a round may be hostile; 0 guards against none.
    """

    hostile: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hostile < 0:
            raise ConfigError(f"hostile is {self.hostile}", "set method.options.hostile to 0 or more")

    @property
    def fewest(self) -> int:
        """Updates that a round must have."""
        return 2 * self.hostile + 1

    def initial(self, adapter: AdapterState, ranks: Mapping[str, int]) -> State:
        """The initial adapter.

        Raises:
            ConfigError: if the federation has too few sites.
        """
        if 0 < len(ranks) < self.fewest:
            raise ConfigError(
                f"strategy {self.name!r} guards against {counted(self.hostile, 'hostile site')} only among "
                f"{self.fewest} or more, and there are {len(ranks)}",
                "lower method.options.hostile, or choose another method.strategy",
            )
        return super().initial(adapter, ranks)

    def enough(self, updates: Updates) -> None:
        """Refuse to go on without guard.

        Raises:
            UpdateRejectedError: if the round has too few updates.
        """
        if len(updates) < self.fewest:
            raise UpdateRejectedError(
                f"strategy {self.name!r} guards against {counted(self.hostile, 'hostile site')} with "
                f"{self.fewest} updates or more, and the round has {len(updates)}",
                f"resume the run when more sites are there; exchange.quorum={self.fewest} waits for them",
            )
