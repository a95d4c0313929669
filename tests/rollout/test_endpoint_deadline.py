"""An endpoint's answer is late if its whole is late, however often a byte of it comes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from fedse.rollout.endpoint.connection import Connection, Unavailable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + b"1" * 40


@pytest.mark.parametrize("begin", [0, len(ANSWER) - 40], ids=["head", "body"])
def test_an_answer_that_trickles_in_is_late_as_a_whole(begin: int) -> None:
    def serve() -> None:
        line, _ = listening.accept()
        with line, contextlib.suppress(OSError):  # who waits no longer hangs up
            line.recv(10_000)
            line.sendall(ANSWER[:begin])
            for place in range(begin, len(ANSWER)):
                line.sendall(ANSWER[place : place + 1])
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        connection = Connection(address, key=None, timeout=0.4, patience=1, most=1)
        with pytest.raises(Unavailable, match="takes too long"):
            connection.ask("GET", "/health")
        server.join()
