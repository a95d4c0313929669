"""Any environment behind OpenEnv's protocol: episodes over a WebSocket, discovery over HTTP.

Not served are ``/reset`` and ``/step`` over HTTP, which cannot play an episode, and tools.  ``GET /fedse`` tells a
client of fedse's what it needs.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import uvicorn
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fedse.environments import serving
from fedse.environments.base import Environment, another
from fedse.environments.openenv.sessions import Session, TaskList, error_frame, no_tools
from fedse.environments.serving import Endpoint, Limits, RefusedError
from fedse.environments.telling import told
from fedse.errors import EnvironmentFault, boundary

#: The only version of the protocol that there is.
_VERSION = "1.0.0"
_PING_SECONDS = 20.0


def app(environment: Environment, limits: Limits | None = None) -> Starlette:
    """The ASGI application that serves an environment.

    Args:
        environment: what is served, with its options; it is not played on itself.
        limits: what the server takes upon itself.
    """
    service = _Service(environment, limits or Limits())
    endpoints: dict[tuple[str, str], Endpoint] = {
        ("GET", "/health"): serving.constant({"status": "healthy"}),
        ("GET", "/metadata"): serving.constant(_metadata(environment)),
        ("GET", "/schema"): serving.constant(_SCHEMA),
        ("GET", "/fedse"): serving.constant(told(environment)),
        ("POST", "/mcp"): service.mcp,
        ("GET", "/list_environments"): serving.constant([environment.spec.name]),
        ("GET", "/{name}/splits"): service.splits,
        ("POST", "/{name}/num_tasks"): service.num_tasks,
        ("POST", "/{name}/tasks"): service.tasks,
        ("POST", "/{name}/task"): service.task,
        ("POST", "/{name}/task_range"): service.task_range,
    }
    paths: dict[str, Any] = {}
    for method, path in endpoints:
        paths.setdefault(path, {})[method.lower()] = {"responses": {"200": {"description": "as the protocol says"}}}
    endpoints["GET", "/openapi.json"] = serving.constant(
        {"openapi": "3.1.0", "info": {"title": environment.spec.name, "version": _VERSION}, "paths": paths}
    )
    return serving.application(
        [
            WebSocketRoute("/ws", service.play),
            *(Route(path, serving.answered(end), methods=[method]) for (method, path), end in endpoints.items()),
        ]
    )


def address(environment: Environment, listening: socket.socket) -> str:  # noqa: ARG001 (the same in each protocol)
    """The URL that clients are given, such as ``http://127.0.0.1:8000``."""
    return serving.url(listening)


def server(environment: Environment, limits: Limits) -> uvicorn.Server:
    """A server ready to run; see :func:`fedse.environments.serving.runner`."""
    return serving.runner(
        environment,
        app(environment, limits),
        limits,
        ws="websockets-sansio",
        ws_max_size=limits.body_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        limit_concurrency=limits.connections + limits.episodes,
    )


class _InSplit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    split: str


class _AtIndex(_InSplit):
    index: int


class _Range(_InSplit):
    start: int | None = None
    stop: int | None = None


class _Service:
    """The operations of one server."""

    def __init__(self, environment: Environment, limits: Limits) -> None:
        self._environment = environment
        self._limits = limits
        self._tasks = TaskList(environment)
        self._open = 0

    async def play(self, websocket: WebSocket) -> None:
        """One socket, until either side leaves."""
        if "origin" in websocket.headers:  # a web page would play in the name of whoever looks at it
            await websocket.close()
            return
        await websocket.accept()
        try:
            refused = self._refusal(websocket)
            if refused is None:
                await self._episodes(websocket)
            else:
                await _send(websocket, refused)
                await websocket.close()
        except WebSocketDisconnect:
            pass

    def _refusal(self, websocket: WebSocket) -> dict[str, Any] | None:
        if "session_id" in websocket.query_params:
            return error_frame("SESSION_ERROR", "There are no sessions but one for each socket")
        most = self._limits.episodes
        if self._open >= most:
            told = f"All {most} sessions are taken: close some, or come back later"
            return error_frame("CAPACITY_REACHED", told, active_sessions=self._open, max_sessions=most)
        return None

    async def _episodes(self, websocket: WebSocket) -> None:
        name = self._environment.spec.name
        try:
            with boundary(EnvironmentFault, f"{name} could not be created"):
                session = Session(another(self._environment), self._tasks)
        except EnvironmentFault as fault:
            await _send(websocket, error_frame("FACTORY_ERROR", fault.what, factory_name=name))
            await websocket.close()
            return
        self._open += 1
        try:
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                answer = session.answer(message["bytes"] if text is None else text)
                if answer is None:
                    await websocket.close()
                    return
                await _send(websocket, answer)
                await asyncio.sleep(0)  # others have their turn, however many frames wait here
        finally:
            self._open -= 1
            session.close()

    async def mcp(self, request: Request) -> Any:
        """Tools, of which there are none."""
        try:
            return no_tools(json.loads(await serving.body_of(request, self._limits.body_bytes)))
        except (ValueError, RecursionError):
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error", "data": None}}

    async def splits(self, request: Request) -> Any:
        """Names and sizes of the splits, and what each is for."""
        self._check_name(request)
        return [
            {"name": split, "type": _type_of(split), "num_tasks": len(tasks)}
            for split, tasks in self._tasks.splits.items()
        ]

    async def num_tasks(self, request: Request) -> Any:
        """Tasks in a split."""
        form = await self._form(request, _InSplit)
        return {"num_tasks": len(self._tasks.splits[form["split"]])}

    async def tasks(self, request: Request) -> Any:
        """All tasks of a split."""
        form = await self._form(request, _InSplit)
        return {"tasks": self._listed(form["split"], None, None), "env_name": self._environment.spec.name}

    async def task(self, request: Request) -> Any:
        """One task."""
        form = await self._form(request, _AtIndex)
        if self._tasks.at(form["split"], form["index"]) is None:
            raise RefusedError(400, {"detail": "Invalid task index"})
        return {"task": self._listed(form["split"], form["index"], form["index"] + 1)[0]}

    async def task_range(self, request: Request) -> Any:
        """Some tasks of a split."""
        form = await self._form(request, _Range)
        return {"tasks": self._listed(form["split"], form["start"], form["stop"])}

    def _listed(self, split: str, start: int | None, stop: int | None) -> list[dict[str, Any]]:
        places = list(enumerate(self._tasks.splits[split]))[start:stop]
        return [{"id": task.id, "index": index, "split": split} for index, task in places]

    async def _form(self, request: Request, form: type[_InSplit]) -> dict[str, Any]:
        self._check_name(request)
        body = await serving.body_of(request, self._limits.body_bytes)
        fields = serving.validated(lambda: form.model_validate_json(body), "body")
        if fields["split"] not in self._tasks.splits:
            known = ", ".join(self._tasks.splits)
            raise RefusedError(400, {"detail": f"There is no split {fields['split'][:80]!r}: {known}"})
        return fields

    def _check_name(self, request: Request) -> None:
        name = request.path_params["name"]
        if name.casefold() != self._environment.spec.name.casefold():
            raise RefusedError(404, {"detail": f"unknown environment {name[:80]!r}"})


async def _send(websocket: WebSocket, frame: dict[str, Any]) -> None:
    # ASCII only, because an agent's action may hold half a surrogate pair, which no encoding takes.
    await websocket.send_text(json.dumps(frame))


def _type_of(split: str) -> str:
    return next((kind for kind in ("test", "validation") if kind in split), "train")


def _metadata(environment: Environment) -> dict[str, Any]:
    spec = environment.spec
    return {
        "name": spec.name,
        "description": spec.summary,
        "readme_content": environment.instruction("full"),
        "version": str(spec.version),
        "author": None,
        "documentation_url": None,
    }


def _text(title: str, description: str) -> dict[str, Any]:
    return {"title": title, "description": description, "type": "string"}


def _or_null(title: str, *kinds: str) -> dict[str, Any]:
    return {"title": title, "anyOf": [{"type": kind} for kind in (*kinds, "null")], "default": None}


def _object(title: str, properties: dict[str, Any], *required: str, more: bool = False) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": more,
    }


_EXTRA = {"title": "Metadata", "type": "object", "additionalProperties": True}
# Reward and end stand beside an observation, but what checks it puts them into it first.
_SEEN = {
    "text": _text("Text", "What the environment says"),
    "reward": _or_null("Reward", "number", "boolean"),
    "done": {"title": "Done", "type": "boolean", "default": False},
    "metadata": _EXTRA | {"description": "With the last step: whether it is a success, and whether turns ran out"},
}
_SCHEMA = {
    "action": _object(
        "TextAction", {"message": _text("Message", "The action, as text"), "metadata": _EXTRA}, "message"
    ),
    "observation": _object("TextObservation", _SEEN, "text"),
    "reset_observation": _object(
        "FirstObservation", {**_SEEN, "instruction": _text("Instruction", "The rules of the game")}, "text"
    ),
    "state": _object(
        "TextState",
        {
            "episode_id": _or_null("Episode Id", "string"),
            "step_count": {"title": "Step Count", "type": "integer", "minimum": 0, "default": 0},
            "environment": _text("Environment", "Its name"),
            "split": _or_null("Split", "string"),
            "index": _or_null("Index", "integer"),
            "task": _or_null("Task", "string"),
            "done": {"title": "Done", "type": "boolean", "default": False},
            "reward": _or_null("Reward", "number"),
            "success": _or_null("Success", "boolean"),
            "truncated": {"title": "Truncated", "type": "boolean", "default": False},
        },
        more=True,
    ),
}
