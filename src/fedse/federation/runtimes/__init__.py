"""Runtimes bring instructions to sites and replies back.  They move bytes and know nothing else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol


class Runtime(Protocol):
    """The way between a server and its sites."""

    def ask(
        self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None
    ) -> Iterator[tuple[int, bytes | str]]:
        """Have sites answer instructions that do not depend on each other.

        Args:
            instructions: (site, bytes of an :class:`fedse.messages.Instruction`), taken one after the other.
            deadline: seconds after which no reply is waited for; None: until all have come.

        Yields:
            (which instruction, the bytes that its site sent, or in words why there will be none), as they come.

        Raises:
            FedseError: on one machine, the error of a site that refused, which ends the run until it is mended.
        """

    def reachable(self, sites: Collection[str]) -> Collection[str]:
        """Those of the sites that can be asked now."""
        return sites  # as where server and sites are on one machine


class InTurns(Runtime):
    """Sites in this process, which answer one after the other; they are waited for, whatever the deadline."""

    @abstractmethod
    def answer(self, site: str, data: bytes) -> bytes:
        """The bytes of a site's reply to an instruction; errors as of :meth:`ask`."""

    def ask(
        self,
        instructions: Iterable[tuple[str, bytes]],
        *,
        deadline: float | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[int, bytes]]:
        """See :class:`Runtime`."""
        for index, (site, data) in enumerate(instructions):
            yield index, self.answer(site, data)
