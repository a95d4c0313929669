"""Talking to an environment's server: deadlines, retries, credentials, and every failure of it an environment fault."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import urllib3
from urllib3.util import Retry, Timeout

from fedse.addresses import authorization, check_address
from fedse.errors import EnvironmentFault
from fedse.http import connection_pool

#: Seconds before the second, third, … retry: 0.5, 1, 2, … up to the most.  The first retry is made at once.
_BACKOFF, _MOST_BACKOFF = 0.25, 30.0
#: Seconds for a connection to come about, and for a farewell.
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0


#: Statuses of a path that is not there, or stands for nothing in this environment.
_UNKNOWN = (404, 405, 501)


def pauses(retries: int) -> Iterator[float]:
    """Seconds to wait before each try: none before the first and the second, then as for HTTP."""
    yield 0.0
    for number in range(retries):
        yield min(_BACKOFF * 2**number, _MOST_BACKOFF) if number else 0.0


class Connection:
    """A connection to one server, kept alive between requests and made anew when it was lost.

    Only what surely did not happen is tried again: a request that could not be sent because no connection came about,
    and one answered with status 503.  A request that may be repeated, such as a reset, is also tried again when its
    answer did not come.

    Args:
        address: ``http://host:port``, or with a path.
        timeout: seconds within which an answer must have come as a whole.
        retries: how often a request is tried again.
        auth_env: environment variable with the credentials; see :func:`fedse.addresses.authorization`.

    Raises:
        ConfigError: if the address is none, or there are no credentials where there should be.
    """

    def __init__(self, address: str, *, timeout: float, retries: int, auth_env: str | None = None) -> None:
        self.address = address.rstrip("/")
        check_address(self.address)
        self._timeout = timeout
        self._retries = retries
        sent = authorization(self.address, auth_env)
        #: Sent with every request.
        self.headers = {"Authorization": sent} if sent else {}
        self._pool = connection_pool(1)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a question.

        Raises:
            EnvironmentFault: if the server cannot be reached, takes too long, or answers with an error.
        """
        return self._ask("GET", path, fields=query, again=True)

    def post(self, path: str, body: dict[str, Any], *, again: bool, unknown: Sequence[int] = ()) -> Any:
        """The answer to a command; raises as :meth:`get` does.

        Args:
            path: where it goes to, below the address.
            body: sent as JSON.
            again: it does no harm if the server carries it out twice.
            unknown: statuses that say that there is no such path, and then the answer is ``None``.
        """
        # ASCII only, because an agent's action may hold half a surrogate pair, which no encoding takes.
        headers = {"Content-Type": "application/json"}
        return self._ask("POST", path, body=json.dumps(body), headers=headers, again=again, unknown=unknown)

    def find(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a question that not every server knows; ``None`` from one that does not.  Raises as ``get``."""
        if body is None:
            return self._ask("GET", path, again=True, unknown=_UNKNOWN)
        return self.post(path, body, again=True, unknown=_UNKNOWN)

    def farewell(self, path: str, body: dict[str, Any]) -> None:
        """A command whose failure does not matter."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            self._pool.request(
                "POST", self.address + path, json=body, headers=self.headers, timeout=CLOSE_SECONDS, retries=False
            )

    def close(self) -> None:
        """Let the connection go; a later request makes a new one."""
        self._pool.clear()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        again: bool,
        unknown: Sequence[int] = (),
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Any:
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
        timeout = Timeout(connect=min(CONNECT_SECONDS, self._timeout), read=self._timeout)
        try:
            response = self._pool.request(
                method,
                self.address + path,
                headers={**self.headers, **(headers or {})},
                retries=retry,
                timeout=timeout,
                decode_content=False,
                **request,
            )
            text = response.data.decode()
        except (urllib3.exceptions.HTTPError, UnicodeDecodeError) as cause:
            raise EnvironmentFault(f"{what}: {cause}", "see whether the server runs and is well") from cause
        if response.status in unknown:
            return None
        if response.status != 200:
            raise EnvironmentFault(f"{what}: status {response.status}: {text[:200]}", "see the server's own output")
        answer = parsed(text, what)
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise EnvironmentFault(f"{what}: the server says: {answer['error']}")
        return answer


def parsed(text: str, what: str) -> Any:
    """The JSON data in a server's answer to ``what``; half a surrogate pair in its texts becomes U+FFFD.

    Raises:
        EnvironmentFault: if it is none.
    """
    try:
        return _encodable(json.loads(text))
    except (ValueError, RecursionError):
        raise EnvironmentFault(f"{what}: the answer is not JSON: {text[:200]}", "check the address") from None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return value
