"""What serving an environment takes, whatever the protocol: limits, the listening socket, bodies, what is told of it.

All requests are answered in turn by one thread: a step takes microseconds to a few milliseconds, less than handing it
to another thread would cost, and no environment needs to be safe to share.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from fedse.environments.base import Environment
from fedse.errors import ConfigError

#: The whole of a request must have come by then.
_BODY_SECONDS = 30.0
#: Agents think between two steps, and their connection waits for them.
_KEEP_ALIVE_SECONDS = 300
_BACKLOG = 1024
_SHUTDOWN_SECONDS = 5

Endpoint = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes upon itself."""

    episodes: int = 4096  #: open at a time
    idle_seconds: float = 3600.0  #: a slot of AgentGym's protocol that is not used for so long is closed
    body_bytes: int = 1 << 20  #: size of a request's body, or of a frame
    connections: int = 1024  #: open at a time, beside those that hold an episode


class RefusedError(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = json_response(body, status, headers)


def application(routes: list[BaseRoute]) -> Starlette:
    """An application with these routes; what goes to others is refused in JSON."""
    made = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    made.router.redirect_slashes = False  # a wrong path is wrong, and the Host header is not given back
    return made


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        RefusedError: if it has more than ``most`` bytes, or comes too slowly.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise RefusedError(
                        413, {"detail": f"The body has more than {most} bytes."}, {"Connection": "close"}
                    )
    except TimeoutError:
        raise RefusedError(408, {"detail": "The body did not come in time."}, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise RefusedError(400, {"detail": "The client left."}) from None
    return bytes(body)


def validated(validate: Callable[[], BaseModel], place: str) -> dict[str, Any]:
    """The fields of a form.

    Raises:
        RefusedError: with a list of what is wrong, in the shape of the originals' framework.
    """
    try:
        return validate().__dict__
    except ValidationError as cause:
        # Neither the input, which may be long and no JSON, nor links are given back.
        found = cause.errors(include_url=False, include_context=False, include_input=False)
        problems = [{**problem, "loc": [place, *problem["loc"]]} for problem in found]
        raise RefusedError(422, {"detail": problems}) from None


def answered(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Its answer as a response."""

    async def answer(request: Request) -> Response:
        try:
            return json_response(await endpoint(request))
        except RefusedError as refused:
            return refused.response

    return answer


def constant(value: Any) -> Endpoint:
    """Always the same answer."""

    async def answer(request: Request) -> Any:  # noqa: ARG001 (the signature of an endpoint)
        return value

    return answer


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a value as JSON."""
    # ASCII only, because an agent's action may hold half a surrogate pair, which no encoding takes.
    return Response(json.dumps(value), status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 (the signature of a handler)
    """What is said to a wrong path or method."""
    if not isinstance(error, HTTPException):
        raise error
    return json_response({"detail": error.detail}, error.status_code, dict(error.headers or {}))


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


def url(listening: socket.socket) -> str:
    """The address at which a socket listens, such as ``http://127.0.0.1:8000``."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def runner(environment: Environment, application: ASGIApp, limits: Limits, **settings: Any) -> uvicorn.Server:
    """A server ready to run: ``runner(…).run(sockets=[listen(host, port)])`` returns on SIGINT or SIGTERM.

    An episode is opened on ``environment`` first, so that what is loaded at the first use is loaded by then, and what
    is missing is noticed.

    Args:
        environment: what is served.
        application: serves it.
        limits: what the server takes upon itself.
        settings: of :class:`uvicorn.Config`, in place of those here.

    Raises:
        EnvironmentFault: if the environment cannot be brought up.
    """
    environment.reset(environment.tasks("train")[0])
    usual: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "lifespan": "off",
        "ws": "none",
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
        "limit_concurrency": limits.connections,
    }
    return uvicorn.Server(uvicorn.Config(application, **(usual | settings)))
