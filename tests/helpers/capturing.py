"""Copied to where a process finds it as ``sitecustomize``: keeps all that the process gives to TLS, before encryption.

In the folder ``$CAPTURED``: ``sent-…``, the bytes of one connection each, and ``connections``, where to they went.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ["CAPTURED"])
_numbers = itertools.count()


def _kept(write: Callable[..., int]) -> Callable[..., int]:
    def writing(self: Any, data: Any, *rest: Any) -> int:
        count = write(self, data, *rest)
        if not hasattr(self, "captured"):
            self.captured = _FOLDER / f"sent-{os.getpid()}-{next(_numbers)}"
        with self.captured.open("ab") as file:
            file.write(bytes(data)[:count])
        return count

    return writing


def _noted(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and arguments[0].family != socket.AF_UNIX:
        with (_FOLDER / "connections").open("a") as file:
            file.write(f"{arguments[1]!r}\n")


ssl.SSLSocket.send = _kept(ssl.SSLSocket.send)  # type: ignore[method-assign]
ssl.SSLSocket.write = _kept(ssl.SSLSocket.write)  # type: ignore[method-assign]
ssl.SSLObject.write = _kept(ssl.SSLObject.write)  # type: ignore[method-assign]
sys.addaudithook(_noted)
