"""Talking to an AgentGym server: time-outs, retries, and every failure of it an environment fault."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.util import Retry, Timeout

from fedse.errors import ConfigError, EnvironmentFault

#: Seconds before the second, third, … retry: 0.5, 1, 2, … up to the most.  The first retry is made at once.
_BACKOFF, _MOST_BACKOFF = 0.25, 30.0
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


class Connection:
    """A connection to one server, kept alive between requests and made anew when it was lost.

    Only what surely did not happen is tried again: a request that could not be sent because no connection came about,
    and one answered with status 503.  A request that may be repeated, such as a reset, is also tried again when its
    answer did not come.

    Args:
        address: ``http://host:port``, or with a path.
        timeout: seconds to wait for an answer.
        retries: how often a request is tried again.

    Raises:
        ConfigError: if the address is none.
    """

    def __init__(self, address: str, *, timeout: float, retries: int) -> None:
        self.address = address.rstrip("/")
        _check(self.address)
        self._timeout = timeout
        self._retries = retries
        self._pool = urllib3.PoolManager(maxsize=1)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a question.

        Raises:
            EnvironmentFault: if the server cannot be reached, takes too long, or answers with an error.
        """
        return self._ask("GET", path, fields=query, again=True)

    def post(self, path: str, body: dict[str, Any], *, again: bool) -> Any:
        """The answer to a command; raises as :meth:`get` does.

        Args:
            path: where it goes to, below the address.
            body: sent as JSON.
            again: it does no harm if the server carries it out twice.
        """
        return self._ask("POST", path, body=json.dumps(body), headers={"Content-Type": "application/json"}, again=again)

    def farewell(self, path: str, body: dict[str, Any]) -> None:
        """A command whose failure does not matter."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            self._pool.request("POST", self.address + path, json=body, timeout=_CLOSE_SECONDS, retries=False)

    def close(self) -> None:
        """Let the connection go; a later request makes a new one."""
        self._pool.clear()

    def _ask(self, method: str, path: str, *, again: bool, **request: Any) -> Any:
        what = f"{method} {self.address}{path}"
        retry = Retry(
            total=self._retries,
            read=None if again else 0,
            other=0,
            redirect=0,
            status_forcelist=[503],
            allowed_methods=None,
            backoff_factor=_BACKOFF,
            backoff_max=_MOST_BACKOFF,
            respect_retry_after_header=False,
        )
        timeout = Timeout(connect=min(_CONNECT_SECONDS, self._timeout), read=self._timeout)
        try:
            response = self._pool.request(method, self.address + path, retries=retry, timeout=timeout, **request)
            text = response.data.decode()
        except (urllib3.exceptions.HTTPError, UnicodeDecodeError) as cause:
            raise EnvironmentFault(f"{what}: {cause}", "see whether the server runs and is well") from cause
        if response.status != 200:
            raise EnvironmentFault(f"{what}: status {response.status}: {text[:200]}", "see the server's own output")
        try:
            answer = json.loads(text)
        except ValueError as cause:
            raise EnvironmentFault(f"{what}: the answer is not JSON: {text[:200]}", "check the address") from cause
        if isinstance(answer, dict) and "error" in answer:
            raise EnvironmentFault(f"{what}: the server says: {answer['error']}")
        return answer


def _check(address: str) -> None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{address!r} is no address of a server", "write it as http://host:port")
