"""Requests to an inference server: what cannot be answered now is told apart from what is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3
from urllib3.util import Timeout

from fedse.errors import EndpointError
from fedse.http import connection_pool
from fedse.texts import parse_json

_CONNECT_SECONDS = 10.0
#: Seconds before a request is made again; doubled each time up to the most.
_PAUSE, _MOST_PAUSE = 0.25, 15.0
_SHOWN = 300
#: Statuses with which a server, or a proxy before it, asks for patience; beside all from 500 on.
LATER = (408, 425, 429)
_MENDS = {
    401: "rollout.endpoint.api_key_env names the environment variable that has the endpoint's key",
    403: "rollout.endpoint.api_key_env names the environment variable that has the endpoint's key",
    404: "check rollout.endpoint.url (without /v1) and rollout.endpoint.api",
}

_T = TypeVar("_T")


class Unavailable(Exception):
    """The server could not do it now, and may later."""


class Stopped(Exception):
    """There is no use in waiting any longer: the rollout ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to one request."""

    status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether the server did what was asked."""
        return 200 <= self.status < 300

    @property
    def body(self) -> Any:
        """The JSON data in it; ``None`` if it is none."""
        try:
            return parse_json(self.text)
        except ValueError:
            return None

    @property
    def words(self) -> str:
        """What it says, as one line that is not too long."""
        body = self.body
        while isinstance(body, dict) and (key := next((key for key in _WORDS if body.get(key)), None)):
            body = body[key]
        text = body if isinstance(body, str) else self.text
        return f"status {self.status}: {' '.join(text.split())[:_SHOWN]}".rstrip(": ")


#: Where servers put what they have to say of an error.
_WORDS = ("error", "error_message", "message", "detail")


class Connection:
    """Requests to one server, from several threads, each with a connection of its own that is kept alive.

    Args:
        address: ``http://host:port``, or with a path.
        key: sent as a bearer token; ``None``: none is.
        timeout: seconds within which an answer must have come as a whole.
        patience: seconds without any reply after which waiting for the server ends.
        most: requests at a time.

    Attributes:
        trouble: why replies are waited for, in words; empty while all is well.
    """

    def __init__(self, address: str, *, key: str | None, timeout: float, patience: float, most: int) -> None:
        self.address = address.rstrip("/")
        self.trouble = ""
        self._patience = patience
        self._replied = 0.0
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = Timeout(connect=min(_CONNECT_SECONDS, timeout), read=timeout)
        self._pool = connection_pool(most)

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> Answer:
        """The server's answer, whatever its status; ``timeout`` instead of the connection's own.

        Raises:
            Unavailable: if there is none.
        """
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        data = None if body is None else json.dumps(body)
        wait = self._timeout if timeout is None else Timeout(timeout)
        try:
            response = self._pool.request(
                method, self.address + path, body=data, headers=headers, timeout=wait, retries=False
            )
            return Answer(response.status, response.data.decode(errors="replace"))
        except (urllib3.exceptions.HTTPError, OSError) as cause:
            raise Unavailable(_cause(cause)) from cause

    def settle(self, what: str, answer: Answer) -> Answer:
        """The answer, if the server did what was asked.

        Raises:
            Unavailable: if it asks for patience.
            EndpointError: if it refuses.
        """
        if answer.status in LATER or answer.status >= 500:
            raise Unavailable(answer.words)
        if not answer.good:
            mend = _MENDS.get(answer.status, "see the server's own output")
            raise EndpointError(f"the endpoint {self.address} refuses {what}: {answer.words}", mend)
        return answer

    def patiently(self, attempt: Callable[[], _T], stopped: threading.Event) -> _T:
        """Try until it works out; many threads may wait at a time.

        Raises:
            EndpointError: if the attempt raises it, or nobody got a reply for too long.
            Stopped: if ``stopped`` is set meanwhile.
        """
        began, pause = time.monotonic(), _PAUSE
        while not stopped.is_set():
            try:
                result = attempt()
            except Unavailable as cause:
                if time.monotonic() - max(began, self._replied) > self._patience:
                    raise EndpointError(
                        f"the endpoint {self.address} gave no reply for {self._patience:g} seconds: {cause}",
                        "see whether it runs, and resume: no episode was lost; rollout.endpoint.patience is how long "
                        "it is waited for",
                    ) from cause
                self.trouble = f"waits for the endpoint {self.address}: {cause}"
                stopped.wait(pause)
                pause = min(2 * pause, _MOST_PAUSE)
            else:
                self._replied, self.trouble = time.monotonic(), ""
                if stopped.is_set():
                    break
                return result
        raise Stopped


def _cause(error: Exception) -> str:
    """Why there was no answer, the same words each time: without the addresses of objects that urllib3 shows."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "no connection" + (f" ({error.__cause__})" if error.__cause__ else "")
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it takes too long"
    return f"the connection was lost ({type(error).__name__})"
