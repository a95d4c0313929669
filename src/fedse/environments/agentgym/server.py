"""Any environment behind AgentGym's HTTP protocol.

The paths, the payloads and the style of errors (status 200 and ``{"error": …}``; 422 for a request of the wrong form)
are the originals', see :mod:`fedse.environments.agentgym.dialects`.  New are the limits, closing for all kinds, and
that no fault of an environment is a server error.

All requests are answered in turn by one thread: a step takes microseconds to a few milliseconds, less than handing it
to another thread would cost, and no environment needs to be safe to share.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from pydantic import BaseModel, ValidationError, create_model
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fedse.environments.agentgym.dialects import Dialect, dialect_of
from fedse.environments.agentgym.slots import Limits, SlotError, SlotsFullError, SlotTable
from fedse.environments.base import Environment
from fedse.errors import ConfigError, EnvironmentFault

#: The whole of a request must have come by then.
_BODY_SECONDS = 30.0
#: Agents think between two steps, and their connection waits for them.
_KEEP_ALIVE_SECONDS = 300
_BACKLOG = 1024
_SHUTDOWN_SECONDS = 5

_Endpoint = Callable[[Request], Awaitable[Any]]


def app(environment: Environment, limits: Limits | None = None, slots: SlotTable | None = None) -> Starlette:
    """The ASGI application that serves an environment.

    Args:
        environment: what is served, with its options; it is not played on itself.
        limits: what the server takes upon itself.
        slots: the table to keep episodes in; a new one unless given.
    """
    limits = limits or Limits()
    dialect = dialect_of(environment.name)
    if slots is None:
        slots = SlotTable(environment, dialect, limits)
    service = _Service(dialect, slots, limits.body_bytes)
    endpoints: dict[tuple[str, str], _Endpoint] = {
        ("GET", "/"): _constant(dialect.greeting),
        ("POST", dialect.path("create")): service.create,
        ("POST", dialect.path("reset")): service.reset,
        ("POST", dialect.path("step")): service.step,
        ("POST", dialect.path("close")): service.close,
        ("GET", dialect.path("observation")): service.observation,
    }
    for name in dialect.queries:
        endpoints["GET", dialect.path(name)] = functools.partial(service.query, name)
    for name, value in dialect.constants.items():
        endpoints["GET", dialect.path(name)] = _constant(value)
    if dialect.details is not None:
        endpoints["GET", dialect.path("detail")] = service.detail
    if dialect.listing is not None:
        endpoints["GET", dialect.path(dialect.listing)] = service.listing
    routes = [Route(path, _answered(endpoint), methods=[method]) for (method, path), endpoint in endpoints.items()]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    application.router.redirect_slashes = False  # a wrong path is wrong, and the Host header is not given back
    return application


class _RefusedError(Exception):
    """A request that is not answered as asked."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.response = _json(body, status, headers)


class _Service:
    """The operations of one server."""

    def __init__(self, dialect: Dialect, slots: SlotTable, body_bytes: int) -> None:
        self._dialect = dialect
        self._slots = slots
        self._body_bytes = body_bytes
        number: Any = (int, ... if dialect.number_default is None else dialect.number_default)
        slot: Any = {dialect.slot: (int, ...)}
        self._slot_form: type[BaseModel] = create_model("Slot", **slot)
        self._step_form: type[BaseModel] = create_model("Step", **slot, action=(str, ...))
        self._reset_form: type[BaseModel] = create_model("Reset", **slot, **{dialect.number: number})

    async def create(self, request: Request) -> Any:
        """Open a slot.  What the body says is ignored, as the originals do in effect."""
        await self._read(request)
        try:
            slot = self._slots.create()
        except SlotsFullError:
            told = {"error": "All episode slots are taken: close some, or wait until idle ones expire."}
            raise _RefusedError(503, told, {"Retry-After": "1"}) from None
        except EnvironmentFault as fault:
            return {"error": fault.what}
        if self._dialect.opens_on_create:
            return slot.reset(slot.number)
        return slot.number if self._dialect.bare else {self._dialect.slot: slot.number}

    async def reset(self, request: Request) -> Any:
        """Begin an episode."""
        form = await self._form(request, self._reset_form)
        payload = self._slots.get(form[self._dialect.slot]).reset(form[self._dialect.number])
        if self._dialect.bare and "error" not in payload:
            return list(payload.values())
        return payload

    async def step(self, request: Request) -> Any:
        """Apply an action."""
        form = await self._form(request, self._step_form)
        return self._slots.get(form[self._dialect.slot]).step(form["action"])

    async def close(self, request: Request) -> Any:
        """Close a slot; answers whether it was open."""
        form = await self._form(request, self._slot_form)
        closed = self._slots.close(form[self._dialect.slot])
        return {"closed": closed} if self._dialect.bare else closed

    async def observation(self, request: Request) -> Any:
        """What the agent last saw."""
        return self._slots.get(self._queried(request)).observation()

    async def detail(self, request: Request) -> Any:
        """What the server keeps about a slot."""
        return self._slots.get(self._queried(request)).detail()

    async def query(self, name: str, request: Request) -> Any:
        """A question that only this kind of session answers."""
        return self._slots.get(self._queried(request)).query(name)

    async def listing(self, request: Request) -> Any:  # noqa: ARG002 (the signature of an endpoint)
        """The numbers of the open slots."""
        return self._slots.numbers()

    def _queried(self, request: Request) -> int:
        form = _validated(lambda: self._slot_form.model_validate(dict(request.query_params)), "query")
        number: int = form[self._dialect.slot]
        return number

    async def _form(self, request: Request, form: type[BaseModel]) -> dict[str, Any]:
        body = await self._read(request)
        return _validated(lambda: form.model_validate_json(body), "body")

    async def _read(self, request: Request) -> bytes:
        """The body of a request, or a refusal of one that is too long or too slow."""
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._body_bytes:
                        told = f"The body has more than {self._body_bytes} bytes."
                        raise _RefusedError(413, {"detail": told}, {"Connection": "close"})
        except TimeoutError:
            raise _RefusedError(408, {"detail": "The body did not come in time."}, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise _RefusedError(400, {"detail": "The client left."}) from None
        return bytes(body)


def _validated(validate: Callable[[], BaseModel], place: str) -> dict[str, Any]:
    """The fields of a form, or a refusal that lists what is wrong, in the shape of the originals' framework."""
    try:
        return validate().__dict__
    except ValidationError as cause:
        # Neither the input, which may be long and no JSON, nor links are given back.
        found = cause.errors(include_url=False, include_context=False, include_input=False)
        problems = [{**problem, "loc": [place, *problem["loc"]]} for problem in found]
        raise _RefusedError(422, {"detail": problems}) from None


def _answered(endpoint: _Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return _json(await endpoint(request))
        except SlotError as error:
            return _json({"error": str(error)})
        except _RefusedError as refused:
            return refused.response

    return answer


def _constant(value: Any) -> _Endpoint:
    async def answer(request: Request) -> Any:  # noqa: ARG001 (the signature of an endpoint)
        return value

    return answer


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # ASCII only, because an agent's action may hold half a surrogate pair, which no encoding takes.
    return Response(json.dumps(value), status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 (the signature of a handler)
    """What is said to a wrong path or method."""
    if not isinstance(error, HTTPException):
        raise error
    return _json({"detail": error.detail}, error.status_code, dict(error.headers or {}))


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
