"""All sites in this process: they take turns on one frozen base model."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.errors import UnknownAdapterError
from fedse.sites.host import SiteHost


class ProcessRuntime:
    """Asks the sites of a host one after the other.

    Args:
        host: has all sites of the run.
    """

    def __init__(self, host: SiteHost) -> None:
        self._host = host

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """See :class:`fedse.federation.runtimes.Runtime`."""
        return [self._answer(site, data) for site, data in instructions]

    def _answer(self, site: str, data: bytes) -> bytes:
        reply = self._host.answer(site, data)
        failure = self._host.failure
        if failure is not None and not isinstance(failure, UnknownAdapterError):  # which the server mends
            raise failure
        return reply
