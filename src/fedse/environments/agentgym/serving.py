"""Run the server of :mod:`fedse.environments.agentgym.server` on a socket."""

from __future__ import annotations

import socket

import uvicorn

from fedse.environments.agentgym.dialects import dialect_of
from fedse.environments.agentgym.server import app
from fedse.environments.agentgym.slots import Limits
from fedse.environments.base import Environment
from fedse.errors import ConfigError

#: Agents think between two steps, and their connection waits for them.
_KEEP_ALIVE_SECONDS = 300
_BACKLOG = 1024
_SHUTDOWN_SECONDS = 5


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: if the address is not this machine's, or is taken.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol named, for else asyncio does not switch Nagle's algorithm off, and every answer takes 40 ms.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as cause:
        raise ConfigError(f"cannot listen on {host}, port {port}: {cause}", "choose another host or port") from cause
    return listening


def address(environment: Environment, listening: socket.socket) -> str:
    """The URL that clients are given, such as ``http://127.0.0.1:8000/maze``."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{dialect_of(environment.name).prefix}"


def server(environment: Environment, limits: Limits) -> uvicorn.Server:
    """A server ready to run: ``server(…).run(sockets=[listen(host, port)])`` returns on SIGINT or SIGTERM.

    An episode is opened on ``environment`` first, so that what is loaded at the first use is loaded by then, and what
    is missing is noticed.

    Raises:
        EnvironmentFault: if the environment cannot be brought up.
    """
    environment.reset(environment.tasks("train")[0])
    return uvicorn.Server(
        uvicorn.Config(
            app(environment, limits),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            limit_concurrency=limits.connections,
        )
    )
