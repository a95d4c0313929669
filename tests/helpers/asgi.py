"""Requests to an ASGI application without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asgi:
    """Calls an application; one event loop serves all calls."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def get(self, target: str) -> Answer:
        return self.call("GET", target)

    def post(self, target: str, body: Any = None) -> Answer:
        return self.call("POST", target, [b"" if body is None else json.dumps(body).encode()])

    def call(self, method: str, target: str, pieces: Iterable[bytes] = (b"",)) -> Answer:
        url = urlsplit(target)
        return self.request(method, url.path, url.query.encode(), pieces)

    def request(self, method: str, path: str, query: bytes = b"", pieces: Iterable[bytes] = (b"",)) -> Answer:
        return self.loop.run_until_complete(self._request(method, path, query, list(pieces)))

    async def _request(self, method: str, path: str, query: bytes, pieces: list[bytes]) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(errors="surrogatepass"),
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        waiting = list(pieces)
        sent: list[Message] = []

        async def receive() -> Message:
            if not waiting:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
