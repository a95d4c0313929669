"""All sites in this process: they take turns on one frozen base model."""

from __future__ import annotations

from fedse.errors import UnknownAdapterError
from fedse.federation.runtimes import InTurns
from fedse.sites.host import SiteHost


class ProcessRuntime(InTurns):
    """Asks the sites of a host one after the other.

    Args:
        host: has all sites of the run.
    """

    def __init__(self, host: SiteHost) -> None:
        self._host = host

    def answer(self, site: str, data: bytes) -> bytes:
        """See :class:`fedse.federation.runtimes.InTurns`."""
        reply = self._host.answer(site, data)
        failure = self._host.failure
        if failure is not None and not isinstance(failure, UnknownAdapterError):  # which the server mends
            raise failure
        return reply
