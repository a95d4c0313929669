"""HTTP connections on which an answer must have come as a whole in time, and is of a bounded size.

A socket's own time-out counts from byte to byte: a server that sends one now and then is never late.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: Bytes that an answer may have, with its headers.
ANSWER_BYTES = 64 << 20


def connection_pool(connections: int) -> urllib3.PoolManager:
    """Keeps so many connections to a server alive; a request's read time-out is for the whole answer.

    A late answer is a ``ReadTimeoutError``, one that is too long a ``ProtocolError``.
    """
    pool = urllib3.PoolManager(maxsize=connections)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return pool


class _Bounded(io.RawIOBase):
    """The bytes of one answer, until the time-out that the socket has now is over."""

    def __init__(self, line: socket.socket) -> None:
        timeout = line.gettimeout()
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._left = ANSWER_BYTES
        self._line, self._stream = line, line.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            seconds = self._deadline - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("timed out")
            self._line.settimeout(seconds)
        count = self._stream.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"the answer has more than {ANSWER_BYTES} bytes")
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Line:
    """What :class:`http.client.HTTPResponse` uses of a socket."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Bounded(self._line))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(_Line(sock), *arguments, **named)  # type: ignore[arg-type]


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
