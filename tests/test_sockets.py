"""Messages between the processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fedse.errors import RunError
from fedse.sockets import SocketServer, call


@pytest.fixture(params=["short", "long"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that a Unix socket can have, and one that it cannot."""
    folder = tmp_path_factory.mktemp("s")
    if request.param == "long":
        folder = folder / ("x" * 120)
        folder.mkdir()
    return folder / "site"


def test_answers_come_back_and_the_path_goes(address: Path) -> None:
    with SocketServer(address, lambda data: data[::-1], limit=10_000_000):
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        for data in (b"", b"abc", os.urandom(10_000_000)):
            assert call(address, data, limit=len(data) + 1, timeout=10) == data[::-1]
    assert not address.exists()
    with pytest.raises(RunError, match="no process listens"):
        call(address, b"", limit=1)


def test_a_second_caller_is_answered_while_the_first_waits(address: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(data: bytes) -> bytes:
        if data == b"train":
            asked.set()
            assert go_on.wait(10)
        return data

    answers: list[bytes] = []
    with SocketServer(address, answer, limit=10):
        long = threading.Thread(target=lambda: answers.append(call(address, b"train", limit=10)))
        long.start()
        assert asked.wait(10)
        assert call(address, b"status", limit=10, timeout=10) == b"status"
        go_on.set()
        long.join(10)
    assert answers == [b"train"]


def test_what_is_too_long_is_neither_read_nor_sent_on(address: Path) -> None:
    asked: list[bytes] = []
    with SocketServer(address, lambda data: (asked.append(data), b"x" * 100)[1], limit=10):
        with pytest.raises(RunError, match="no answer"):
            call(address, b"y" * 11, limit=200, timeout=10)
        assert asked == []
        with pytest.raises(RunError, match="no answer"):
            call(address, b"y", limit=99, timeout=10)


def test_an_answer_that_does_not_come_is_not_waited_for(address: Path) -> None:
    go_on = threading.Event()
    with SocketServer(address, lambda data: b"x" if go_on.wait(10) else b"", limit=10):
        with pytest.raises(RunError, match=r"within 0\.05 s"):
            call(address, b"y", limit=10, timeout=0.05)
        go_on.set()


def test_only_one_process_listens(address: Path) -> None:
    with SocketServer(address, bytes, limit=10):
        with pytest.raises(RunError, match="another process listens"):
            SocketServer(address, bytes, limit=10)
        assert call(address, b"y", limit=10, timeout=10) == b"y"


def test_what_a_killed_process_left_is_replaced(address: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_listen_and_die, args=(address,))
    process.start()
    process.join(30)
    assert process.exitcode == 9
    assert address.exists()
    with SocketServer(address, lambda data: b"new", limit=10):
        assert call(address, b"y", limit=10, timeout=10) == b"new"


def _listen_and_die(address: Path) -> None:
    SocketServer(address, bytes, limit=10)
    os._exit(9)


def test_a_caller_without_the_key_is_not_answered(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    asked: list[bytes] = []
    with SocketServer(folder / "site", lambda data: (asked.append(data), b"")[1], limit=100):
        port = int((folder / "site").read_text().split()[0])
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"\0\0\0\x05hello" * 3)
            line.settimeout(10)
            with suppress(ConnectionResetError):
                while line.recv(1000):
                    pass
    assert asked == []
