"""OpenEnv servers that say whatever a test wants."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

Reply = Callable[[dict[str, Any], int], Any]
SCHEMA = {"action": {"required": ["guess"], "properties": {"guess": {"type": "string"}}}}
#: An answer that is no answer.
SILENCE, HANG_UP = object(), object()


def seen(text: str, reward: Any = None, done: Any = False, **more: Any) -> dict[str, Any]:
    return {"type": "observation", "data": {"observation": {"text": text}, "reward": reward, "done": done, **more}}


@contextmanager
def stranger(
    reply: Reply, paths: Mapping[str, Any] | None = None, *, trickle: bool = False
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers as told: (frame, frames before it) → a frame, a text, or one of the two silences."""
    received: list[dict[str, Any]] = []
    known = {"/schema": SCHEMA, "/metadata": {"name": "guess", "description": "Guess!"}, **(paths or {})}
    over = threading.Event()

    def http(line: ServerConnection, request: Request) -> Response | None:
        if request.path == "/ws":
            return None
        if request.path not in known:
            return line.respond(HTTPStatus.NOT_FOUND, "{}")
        return line.respond(HTTPStatus.OK, json.dumps(known[request.path]))

    def play(line: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for text in line:
                received.append(json.loads(text))
                answer = reply(received[-1], len(received) - 1)
                if answer is HANG_UP:
                    return
                if answer is SILENCE:
                    over.wait(20)
                    continue
                sent = answer if isinstance(answer, str | bytes) else json.dumps(answer)
                if trickle:
                    line.send(_slowly(sent))
                else:
                    line.send(sent)

    def _slowly(text: str) -> Iterator[str]:
        for letter in text:
            yield letter
            time.sleep(0.05)

    server = serve(play, "127.0.0.1", 0, process_request=http, compression=None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"openenv:http://127.0.0.1:{server.socket.getsockname()[1]}", received
    finally:
        over.set()
        server.shutdown()
        thread.join(timeout=20)
