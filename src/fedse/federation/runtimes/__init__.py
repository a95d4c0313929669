"""Runtimes bring instructions to sites and replies back.  They move bytes and know nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Runtime(Protocol):
    """The way between a server and its sites."""

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Have sites answer instructions that do not depend on each other.

        Args:
            instructions: (site, bytes of an :class:`fedse.messages.Instruction`).

        Returns:
            In the same order the bytes that each site sent; None where no reply came.

        Raises:
            FedseError: on one machine, the error of a site that refused, which ends the run until it is mended.
        """
