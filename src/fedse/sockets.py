"""Messages between the processes of one machine: one question, one answer, bytes of a limited length.

A process listens at a path.  Where the system has Unix domain sockets and the path is short enough for one, it is a
socket that only its owner can open.  Elsewhere it is a file that only its owner can read: it names a port of the
loopback interface and a random key, and both ends prove that they know the key.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from fedse.errors import RunError

#: Bytes of a socket's path: 108 on Linux, 104 elsewhere, with the zero that ends it.
_LONGEST_PATH = 103
_LOOPBACK = "127.0.0.1"
#: Seconds in which a caller must have asked, and that closing waits for answers under way.
_PATIENCE_SECONDS = 5.0


class SocketServer:
    """Answers whoever calls at a path, several at a time, until it is closed.

    Use it as a context manager.

    Args:
        address: where to listen; its folder exists.
        answer: the answer to a question; called in a thread of its own for each, so it guards what it shares.  Where
            it raises, the caller gets no answer.
        limit: bytes that a question may have.

    Raises:
        RunError: if another process listens there, or if nobody can.
    """

    def __init__(self, address: Path, answer: Callable[[bytes], bytes], *, limit: int) -> None:
        self._address, self._answer, self._limit = address, answer, limit
        _clear(address)
        try:
            self._listener, self._key = _listen(address)
            self._identity = address.stat().st_ino
        except OSError as cause:
            raise RunError(f"cannot listen at {address}: {cause.strerror or cause}") from cause
        self._closing, self._close = socket.socketpair()
        self._callers: set[threading.Thread] = set()
        self._accepting = threading.Thread(target=self._accept, name=f"listen-{address.name}", daemon=True)
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more, remove the path, and wait a little for the answers under way."""
        self._close.close()
        self._accepting.join()
        self._listener.close()
        self._closing.close()
        # Another process may have taken the place of a path that somebody removed.
        if self._address.exists() and self._address.stat().st_ino == self._identity:
            self._address.unlink()
        for caller in list(self._callers):
            caller.join(_PATIENCE_SECONDS)

    def _accept(self) -> None:
        while self._closing not in wait([self._listener, self._closing]):
            try:
                connection = Connection(self._listener.accept()[0].detach())
            except OSError:  # the caller has gone already
                continue
            caller = threading.Thread(target=self._serve, args=(connection,), name=self._accepting.name, daemon=True)
            self._callers.add(caller)
            caller.start()

    def _serve(self, connection: Connection) -> None:
        try:
            with connection:
                if self._key:
                    deliver_challenge(connection, self._key)
                    answer_challenge(connection, self._key)
                if connection.poll(_PATIENCE_SECONDS):
                    connection.send_bytes(self._answer(connection.recv_bytes(self._limit)))
        except (OSError, EOFError, AuthenticationError):
            pass  # the caller went away, asked too much, or is a stranger
        finally:
            self._callers.discard(threading.current_thread())


def call(address: Path, data: bytes, *, limit: int, timeout: float | None = None) -> bytes:
    """Ask the process that listens at a path.

    Args:
        address: where it listens.
        data: the question.
        limit: bytes that the answer may have.
        timeout: seconds to wait for the answer; without one, as long as the process lives.

    Returns:
        The answer.

    Raises:
        RunError: if nobody listens there, or no answer comes.
    """
    try:
        connection, key = _connect(address)
    except OSError as cause:
        raise RunError(f"no process listens at {address}: {cause.strerror or cause}") from cause
    try:
        with connection:
            if key:
                answer_challenge(connection, key)
                deliver_challenge(connection, key)
            connection.send_bytes(data)
            if not connection.poll(timeout):
                raise RunError(f"the process that listens at {address} gave no answer within {timeout:g} s")
            return connection.recv_bytes(limit)
    except (OSError, EOFError, AuthenticationError) as cause:
        raise RunError(f"the process that listens at {address} gave no answer that can be read") from cause


def _local(address: Path) -> bool:
    return hasattr(socket, "AF_UNIX") and len(os.fsencode(address)) <= _LONGEST_PATH


def _listen(address: Path) -> tuple[socket.socket, bytes]:
    """Returns: the listening socket, and the key that callers must know; empty where the system keeps others out."""
    if _local(address):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(address))
        address.chmod(0o600)  # nobody can connect before it listens
        listener.listen()
        return listener, b""
    listener = socket.create_server((_LOOPBACK, 0))
    key = secrets.token_hex()
    file = os.open(address, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(f"{listener.getsockname()[1]} {key}")
    return listener, key.encode()


def _connect(address: Path) -> tuple[Connection, bytes]:
    if stat.S_ISSOCK(address.stat().st_mode):
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(address))
        except OSError:
            line.close()
            raise
        return Connection(line.detach()), b""
    port, _, key = address.read_text().partition(" ")
    if not port.isdecimal() or not key:
        raise OSError("the file names no port")
    return Connection(socket.create_connection((_LOOPBACK, int(port))).detach()), key.encode()


def _clear(address: Path) -> None:
    """Remove what a dead process has left at the path."""
    try:
        connection, key = _connect(address)
        with connection:
            if key:  # by now, the port may be that of a stranger
                answer_challenge(connection, key)
    except FileNotFoundError:
        return
    except (OSError, EOFError, AuthenticationError):
        address.unlink(missing_ok=True)
    else:
        raise RunError(f"another process listens at {address}", "end it first, or use another folder")
