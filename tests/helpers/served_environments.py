"""Servers for the tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from fedse.environments import make
from fedse.environments.serving import Limits, listen


@contextmanager
def served(
    name: str, limits: Limits | None = None, *, protocol: str = "agentgym", port: int = 0, **options: Any
) -> Iterator[str]:
    """An environment on a port of this machine, a free one by default; gives the name under which it is played."""
    environment = make(name, **options)
    serving = import_module(f"fedse.environments.{protocol}.server")
    listening = listen("127.0.0.1", port)
    running = serving.server(environment, limits or Limits())
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"{protocol}:{serving.address(environment, listening)}"
    finally:
        running.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
