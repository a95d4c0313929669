"""All sites in this process: they take turns on one frozen base model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedse.errors import UnknownAdapterError
from fedse.federation.runtimes import Runtime
from fedse.sites.host import SiteHost


class ProcessRuntime(Runtime):
    """Asks the sites of a host one after the other.

    Args:
        host: has all sites of the run.
    """

    def __init__(self, host: SiteHost) -> None:
        self._host = host

    def ask(
        self,
        instructions: Iterable[tuple[str, bytes]],
        *,
        deadline: float | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[int, bytes]]:
        """See :class:`fedse.federation.runtimes.Runtime`; whoever is in the same process is waited for."""
        for index, (site, data) in enumerate(instructions):
            yield index, self._answer(site, data)

    def _answer(self, site: str, data: bytes) -> bytes:
        reply = self._host.answer(site, data)
        failure = self._host.failure
        if failure is not None and not isinstance(failure, UnknownAdapterError):  # which the server mends
            raise failure
        return reply
