"""A WebSocket to an OpenEnv server: a request, then its answer, and never a second request before that.

Answers have no numbers.  After anything unforeseen nobody knows what the next one belongs to, so the socket is dropped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from fedse.environments.connection import CLOSE_SECONDS, CONNECT_SECONDS, parsed
from fedse.errors import EnvironmentFault

_log = logging.getLogger(__name__)
#: The library tells of each frame, with its content.
_log.setLevel(logging.WARNING)

_ANSWER_BYTES = 16 << 20
_PING_SECONDS = 20.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LostError(Exception):
    """There is no connection, or it was lost, or no answer came in time."""


class Socket:
    """An open socket.

    Args:
        address: of the server, ``http://host:port``, or with a path.
        timeout: seconds within which an answer must have come as a whole.
        headers: sent with the handshake.

    Raises:
        LostError: if the server cannot be reached now.
        EnvironmentFault: if what answers there is no OpenEnv server, or turns us away.
    """

    def __init__(self, address: str, *, timeout: float, headers: Mapping[str, str]) -> None:
        self.address = address
        self._timeout = timeout
        self._open = ExitStack()
        try:
            self._line: ClientConnection = self._open.enter_context(
                connect(
                    f"ws{address.removeprefix('http')}/ws",
                    open_timeout=min(CONNECT_SECONDS, timeout),
                    close_timeout=CLOSE_SECONDS,
                    ping_interval=_PING_SECONDS,
                    ping_timeout=_PING_SECONDS,
                    max_size=_ANSWER_BYTES,
                    compression=None,
                    additional_headers=dict(headers),
                    proxy=None if urlsplit(address).hostname in _LOOPBACK else True,
                    logger=_log,
                )
            )
        except InvalidStatus as cause:
            status = cause.response.status_code
            if status == 503:
                raise LostError("it is busy (status 503)") from cause
            raise EnvironmentFault(
                f"{address}/ws: status {status}", "check the address: an OpenEnv server has a WebSocket there"
            ) from cause
        except (OSError, InvalidHandshake, WebSocketException) as cause:
            raise LostError(f"no connection ({cause or type(cause).__name__})") from cause

    def ask(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            LostError: if none came.
            EnvironmentFault: if it is no frame of the protocol.
        """
        try:
            # Where sending fails because the server has left, it may have said why.
            with suppress(ConnectionClosed):
                self._line.send(json.dumps(frame))
            text = self._line.recv(timeout=self._timeout)
        except TimeoutError as cause:
            raise LostError(f"no answer within {self._timeout:g} s") from cause
        except (OSError, WebSocketException) as cause:
            raise LostError(f"the connection was lost ({cause})") from cause
        if not isinstance(text, str):
            raise EnvironmentFault(f"{self.address}/ws: the answer is no text", "check the address")
        answer = parsed(text, f"{self.address}/ws")
        if not (isinstance(answer, dict) and "type" in answer and isinstance(answer.get("data"), dict)):
            raise EnvironmentFault(f"{self.address}/ws: the answer is no frame: {text[:200]}", "check the address")
        return answer

    def close(self) -> None:
        """Leave; the server is not waited for long."""
        self._open.close()
