"""Who may ask for what: the door before Flower's routes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    MAX_TIMESTAMP_DIFF_SECONDS,
    MIN_TIMESTAMP_DIFF_SECONDS,
)
from flwr.supercore.date import now
from flwr.supercore.error import http_error_translator
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fedse.federation.runtimes.flower.packing import (
    CHUNK_BYTES,
    PROCESS_HEADER,
    SLACK_BYTES,
    VERSION,
    VERSION_HEADER,
    most_objects,
)
from fedse.federation.runtimes.flower.post import Member, Post

#: What a site may ask for.  The rest of the Fleet API lets nodes register themselves and fetch code.
_ROUTES = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "push-object",
        "pull-object",
    )
)
_PULL, _PUSH_OBJECT = "/v1/fleet/pull-messages", "/v1/fleet/push-object"
_TREE_BYTES = 128  # of an object's name in a tree, at most
#: Seconds in which a request must have arrived: a chunk over a line of 30 kB/s.
_BODY_SECONDS = 180.0

_Scope = MutableMapping[str, Any]
_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]


class _Checks:
    """Flower's log of events, as the place that sees each request once its sender is known."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def compose_log_before_event(self, *, request: Any, context: Any, **_: object) -> Any:
        """Refuse what may not be asked; see :meth:`Post.check`."""
        self._post.check(request, context.headers.get(PROCESS_HEADER, ""))

    def compose_log_after_event(self, **_: object) -> Any:
        """Nothing is logged."""

    def write_log(self, log_entry: Any) -> None:
        """Nothing is logged."""


class Gate:
    """Stands before Flower's routes: lets known keys through, to what a site needs, with requests of a bounded size.

    A stranger's request is refused before its body is read.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        application = FastAPI(
            openapi_url=None,
            middleware=[
                Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
                Middleware(ProtobufTranslationMiddleware),
                Middleware(NodeAuthMiddleware),
                Middleware(FleetEventLogMiddleware),
            ],
        )
        application.include_router(fleet_router)
        application.state.linkstate_factory = post
        application.state.enable_supernode_auth = True
        application.state.fleet_event_log_plugin = _Checks(post)
        self._flower = application

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Let a request pass, or refuse it: the application of ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _ROUTES:
            await _refuse(send, 404)
            return
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        member, signed = self._sender(headers)
        if member is None:
            await _refuse(send, 403)
            return
        if not signed:
            await _refuse(send, 401)
            return
        if headers.get(VERSION_HEADER) != VERSION.encode():
            await _refuse(send, 426)
            return
        body = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_BODY_SECONDS):
                body = await self._read(scope["path"], headers.get("content-length"), receive)
        if body is None:
            await _refuse(send, 413)
            return
        if scope["path"] == _PULL:
            await self._post.hold(member)
        bodies = iter([body])

        async def replay() -> _Event:
            for whole in bodies:
                return {"type": "http.request", "body": whole, "more_body": False}
            return await receive()

        await self._flower(scope, replay, send)

    def _sender(self, headers: Mapping[str, bytes]) -> tuple[Member | None, bool]:
        """Whose key a request shows, and whether it was signed with it just now.

        Flower checks the same once it has read the whole request.
        """
        try:
            key = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER])
            member = self._post.members.get(key)
            if member is None:
                return None, False
            stamp = headers[TIMESTAMP_HEADER]
            age = (now() - datetime.fromisoformat(stamp.decode("ascii"))).total_seconds()
            signature = base64.b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER])
            fresh = MIN_TIMESTAMP_DIFF_SECONDS < age < MAX_TIMESTAMP_DIFF_SECONDS
            return member, fresh and verify_signature(bytes_to_public_key(key), stamp, signature)
        except (KeyError, ValueError, TypeError):
            return None, False

    async def _read(self, path: str, announced: bytes | None, receive: _Receive) -> bytes | None:
        most = SLACK_BYTES + (CHUNK_BYTES if path == _PUSH_OBJECT else most_objects(self._post.limit) * _TREE_BYTES)
        if announced is not None and (not announced.isdigit() or int(announced) > most):
            return None
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return b""
            part = event.get("body", b"")
            size += len(part)
            if size > most:
                return None
            parts.append(part)
            more = event.get("more_body", False)
        return b"".join(parts)


async def _refuse(send: _Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
