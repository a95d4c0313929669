"""A line between a site and its server that can be told to fail: TCP, relayed on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_PART = 4096
#: Bytes in one direction without any in the other that only an adapter has.
_LARGE = 8_000


class FaultyLine:
    """Passes bytes on between callers and a server, until told otherwise.

    Args:
        server: its port.

    Attributes:
        port: that callers reach it by.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()  # bytes pass
        self._open.set()
        self._lines: list[socket.socket] = []
        self._uploads = 0
        self._cut: tuple[int, Callable[[], None]] | None = None
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends accept(), too
        self._listener.close()
        self.mend()

    def cut_at_upload(self, number: int, then: Callable[[], None]) -> None:
        """In the midst of a caller's upload of an adapter, the n-th from the beginning, stop passing bytes."""
        self._cut = number, then

    def cut(self) -> None:
        """Pass no more bytes; nobody is told."""
        self._open.clear()

    def mend(self) -> None:
        """Drop the connections that there are, and pass bytes again."""
        with self._guard:
            for line in self._lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            self._lines.clear()
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(caller,), daemon=True).start()

    def _relay(self, caller: socket.socket) -> None:
        with self._guard:
            self._lines.append(caller)
        self._open.wait()
        with caller, suppress(OSError), socket.create_connection(("127.0.0.1", self._server)) as server:
            with self._guard:
                self._lines.append(server)
            sent = [0]
            back = threading.Thread(target=self._pass, args=(server, caller, sent, False), daemon=True)
            back.start()
            self._pass(caller, server, sent, True)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, sent: list[int], up: bool) -> None:
        """Args: sent: bytes up since the last one down."""
        with suppress(OSError):
            while part := source.recv(_PART):
                self._open.wait()
                target.sendall(part)
                before, sent[0] = sent[0], sent[0] + len(part) if up else 0
                if up and before <= _LARGE < sent[0]:
                    self._large()
        for line in (source, target):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _large(self) -> None:
        self._uploads += 1
        if self._cut and self._uploads == self._cut[0]:
            self.cut()
            self._cut[1]()
