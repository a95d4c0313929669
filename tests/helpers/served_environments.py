"""Servers for the tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedse.environments import make
from fedse.environments.agentgym.server import address, server
from fedse.environments.serving import Limits, listen


@contextmanager
def served(name: str, limits: Limits | None = None, **options: Any) -> Iterator[str]:
    """An environment on a free port of this machine; gives the name under which it is played."""
    environment = make(name, **options)
    listening = listen("127.0.0.1", 0)
    running = server(environment, limits or Limits())
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"agentgym:{address(environment, listening)}"
    finally:
        running.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
