"""Any environment behind AgentGym's HTTP protocol.

The paths, the payloads and the style of errors (status 200 and ``{"error": …}``; 422 for a request of the wrong form)
are the originals', see :mod:`fedse.environments.agentgym.dialects`.  New are the limits, closing for all kinds, that no
fault of an environment is a server error, and ``GET …/fedse``, which tells what is served.
"""

from __future__ import annotations

import functools
import socket
from typing import Any

import uvicorn
from pydantic import BaseModel, create_model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from fedse.environments import serving
from fedse.environments.agentgym.dialects import Dialect, dialect_of
from fedse.environments.agentgym.slots import SlotError, SlotsFullError, SlotTable
from fedse.environments.base import Environment
from fedse.environments.serving import Endpoint, Limits, RefusedError
from fedse.environments.telling import told
from fedse.errors import EnvironmentFault


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
    endpoints: dict[tuple[str, str], Endpoint] = {
        ("GET", "/"): serving.constant(dialect.greeting),
        ("POST", dialect.path("create")): service.create,
        ("POST", dialect.path("reset")): service.reset,
        ("POST", dialect.path("step")): service.step,
        ("POST", dialect.path("close")): service.close,
        ("GET", dialect.path("observation")): service.observation,
        ("GET", dialect.path("fedse")): serving.constant(told(environment)),
    }
    for name in dialect.queries:
        endpoints["GET", dialect.path(name)] = functools.partial(service.query, name)
    for name, value in dialect.constants.items():
        endpoints["GET", dialect.path(name)] = serving.constant(value)
    if dialect.details is not None:
        endpoints["GET", dialect.path("detail")] = service.detail
    if dialect.listing is not None:
        endpoints["GET", dialect.path(dialect.listing)] = service.listing
    return serving.application(
        [
            Route(path, serving.answered(_guarded(endpoint)), methods=[method])
            for (method, path), endpoint in endpoints.items()
        ]
    )


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
        await serving.body_of(request, self._body_bytes)
        try:
            slot = self._slots.create()
        except SlotsFullError:
            told = {"error": "All episode slots are taken: close some, or wait until idle ones expire."}
            raise RefusedError(503, told, {"Retry-After": "1"}) from None
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
        form = serving.validated(lambda: self._slot_form.model_validate(dict(request.query_params)), "query")
        number: int = form[self._dialect.slot]
        return number

    async def _form(self, request: Request, form: type[BaseModel]) -> dict[str, Any]:
        body = await serving.body_of(request, self._body_bytes)
        return serving.validated(lambda: form.model_validate_json(body), "body")


def _guarded(endpoint: Endpoint) -> Endpoint:
    """A slot that is not there is an answer as well."""

    async def answer(request: Request) -> Any:
        try:
            return await endpoint(request)
        except SlotError as error:
            return {"error": str(error)}

    return answer


def address(environment: Environment, listening: socket.socket) -> str:
    """The URL that clients are given, such as ``http://127.0.0.1:8000/maze``."""
    return serving.url(listening) + dialect_of(environment.name).prefix


def server(environment: Environment, limits: Limits) -> uvicorn.Server:
    """A server ready to run; see :func:`fedse.environments.serving.runner`."""
    return serving.runner(environment, app(environment, limits), limits)
