"""All sites in this process, on one frozen base model: they play together, and train in turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedse.errors import UnknownAdapterError
from fedse.federation.runtimes import Runtime
from fedse.sites.host import Answered, SiteHost


class ProcessRuntime(Runtime):
    """Asks the sites of a host; they are waited for, whatever the deadline.

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
        """See :class:`fedse.federation.runtimes.Runtime`."""
        for answered in self._host.answer_all(list(instructions)):
            yield answered.index, usable(answered)

    def answer(self, site: str, data: bytes) -> bytes:
        """The bytes of one site's reply; errors as of :meth:`ask`."""
        [(_, reply)] = self.ask([(site, data)])
        return reply


def usable(answered: Answered) -> bytes:
    """The reply, unless the site failed: on one machine its own error ends the run until it is mended."""
    failure = answered.failure
    if failure is not None and not isinstance(failure, UnknownAdapterError):  # which the server mends
        raise failure
    return answered.reply
