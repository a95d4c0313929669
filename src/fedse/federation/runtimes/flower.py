"""Sites on machines of their own, and simulated ones, joined by Flower.  The one module that imports it.

**Sites of their own.**  :func:`link` runs the part of Flower's SuperLink that sites need, its Fleet API, inside the
server's process.  There is no control interface: nobody can submit code, neither from outside nor with a site's key.
:func:`serve` is a Flower node inside the site's process.  It runs no code that comes over the wire.  Both keep to
Flower's protocol (its messages, its signatures with the node's key, its objects pushed and pulled in chunks), and add
what a federation over days needs: a site's request for work is held until there is some; an instruction is handed out
again until its reply is complete, so that a site or a server may be killed at any time; a reply is bounded before its
bytes are taken in; and a site signs with the server's clock, whatever its own says.

**Simulation.**  :func:`simulation` runs Flower's simulation engine on this machine.

Instructions and replies are bytes to this module: one packed array in each message.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import queue
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import uvicorn

from fedse.errors import ConfigError, FedseError, MessageError, RunError
from fedse.federation.runtimes import Runtime
from fedse.sockets import SocketServer, call
from fedse.storage import cache_folder

# Flower reads these when it is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
if "FLWR_HOME" not in os.environ:
    os.environ["FLWR_HOME"] = str(cache_folder() / "flower")

try:
    import httpx
    from cryptography.hazmat.primitives.asymmetric import ec
    from fastapi import FastAPI, HTTPException
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, Metadata, RecordDict
    from flwr.app.message import make_message
    from flwr.app.message.arraychunk import ArrayChunk
    from flwr.app.message.message import remove_content_from_message
    from flwr.clientapp import ClientApp
    from flwr.common.constant import (
        FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE,
        HEARTBEAT_MIN_INTERVAL,
        NOOP_ACCOUNT_NAME,
        NOOP_FLWR_AID,
        SUPERLINK_NODE_ID,
        TIMESTAMP_HEADER,
        ErrorCode,
    )
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.fleet_pb2 import (
        ActivateNodeRequest,
        DeactivateNodeRequest,
        PullMessagesRequest,
        PushMessagesRequest,
    )
    from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
    from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PushObjectRequest
    from flwr.proto.node_pb2 import Node
    from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation
    from flwr.supercore.constant import (
        FLEET_HTTP_PUBLIC_KEY_HEADER,
        FLEET_HTTP_SIGNATURE_HEADER,
        MAX_TIMESTAMP_DIFF_SECONDS,
        MIN_TIMESTAMP_DIFF_SECONDS,
        NOOP_FEDERATION_ID,
        TaskType,
    )
    from flwr.supercore.date import now
    from flwr.supercore.error import http_error_translator
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_body,
        get_object_head_values_from_object_content,
        get_object_tree,
        iterate_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
    from flwr.supercore.primitives.asymmetric import (
        bytes_to_private_key,
        bytes_to_public_key,
        public_key_to_bytes,
        sign_message,
        uses_nist_ec_curve,
        verify_signature,
    )
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
    from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
    from flwr.supercore.version import package_version
    from flwr.superlink.federation import NoOpFederationManager
    from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
    from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
    from flwr.superlink.routers.fleet.router import router as fleet_router
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
except ImportError as cause:
    raise ConfigError(
        f"sites on machines of their own need Flower, which is not installed ({cause})", 'pip install "fedse[flower]"'
    ) from cause

# Flower's log would name keys, and its debug messages whole requests.  What matters is told to the caller.
logging.getLogger("flwr").handlers = [logging.NullHandler()]
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL)
# These would write a line for each request.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

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
#: Says which of a site's processes asks, so that two with one key do not work against each other.
_PROCESS_HEADER = "fedse-process"
_VERSION_HEADER = "fedse-flower"
_VERSION = ".".join(package_version.split(".")[:2])

_CHUNK_BYTES = FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
#: Bytes of a message beside its chunks, and of a request beside its chunk.
_SLACK_BYTES = 64 * 1024
#: Objects of a message beside its chunks: the message itself, its record of records, the record of arrays, the array.
_FRAMES = 4
_TREE_BYTES = 128  # of an object's name in a tree, at most

#: Seconds that a request for work is held; a site whose network was cut notices after that and a little more.
_HOLD_SECONDS = 3.0
#: Seconds of silence after which another process may speak for a site.
_LEASE_SECONDS = 8.0
#: Seconds of silence after which a reply that is being pushed gives way to others.
_STALLED_SECONDS = 30.0
#: Seconds in which a request must have arrived: a chunk over a line of 30 kB/s.
_BODY_SECONDS = 180.0
#: Replies that the server takes in or keeps at a time; more would make its memory grow with the number of sites.
_MOST_REPLIES = 8
_ANSWER_SECONDS = 30.0
#: Seconds of silence after which a site is not asked.  One that takes part is heard of every few seconds, unless it
#: pushes a reply over a slow line.
_SILENT_SECONDS = 90.0
_LONGEST_WAIT_SECONDS = 2.0
#: A message outlives every deadline and every difference between clocks; :class:`FlowerRuntime` keeps the deadlines.
_LIFETIME_SECONDS = 1e9

_Scope = MutableMapping[str, Any]
_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]


# --- messages -------------------------------------------------------------------------------------------------------


def _most_objects(limit: int) -> int:
    return -(-limit // _CHUNK_BYTES) + _FRAMES


def _pack(data: bytes) -> RecordDict:
    return RecordDict({"bytes": ArrayRecord({"bytes": Array("uint8", (len(data),), "bytes", data)})})


def _unpack(root: str, contents: Mapping[str, bytes], limit: int) -> bytes:
    """The bytes of a packed message.

    Args:
        root: name of the message's object.
        contents: name → object, as Flower sends it.
        limit: bytes that may come out.  The objects can claim more than they hold: one chunk can be named many times.

    Raises:
        MessageError: if the objects are no packed message, or one of more bytes.
    """
    try:
        content = contents[root]
        for kind in ("Message", "RecordDict", "ArrayRecord"):
            found, children, _ = get_object_head_values_from_object_content(content)
            [child] = children
            if found != kind:
                raise ValueError(f"{found} in the place of {kind}")
            content = contents[child]
        chunks = get_object_head_values_from_object_content(content)[1]
        order = [chunks[index] for index in json.loads(get_object_body(content, Array))["arraychunk_ids"]]
        if sum(len(contents[chunk]) for chunk in order) > limit + _SLACK_BYTES * (len(order) + 1):
            raise ValueError(f"more than {limit} bytes")
        parts = [get_object_body(contents[chunk], ArrayChunk) for chunk in order]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as cause:
        raise MessageError(f"no message with one packed array: {cause}") from cause
    if sum(map(len, parts)) > limit:
        raise MessageError(f"more than {limit} bytes")
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A message as Flower sends it: its head, the tree of its objects' names, and the objects, children first."""

    head: Message
    tree: ObjectTree
    objects: Mapping[str, Any]

    @classmethod
    def of(cls, message: Message) -> _Parcel:
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            return cls(remove_content_from_message(message), get_object_tree(message), get_all_nested_objects(message))


# --- the server's end -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Member:
    """A site that is admitted.

    Attributes:
        site: its name.
        node: its Flower node.
        mail: set when there is work for it.
        waiting: the instructions that it has not answered, oldest first.
        process: which of its processes speaks for it.
        heard: when it last spoke, by the monotonic clock.
    """

    site: str
    node: int
    mail: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    process: str = ""
    heard: float | None = None


@dataclass(slots=True)
class _Waiting:
    """An instruction without a complete reply.

    Attributes:
        name: of the instruction.
        member: whom it went to.
        objects: names of its objects.
        box: takes the instruction's name when it has ended.
        reply: name of the reply that is being pushed; empty if none is.
        session: under which its objects come.
        left: bytes that they may still have.
        moved: when one came last, by the monotonic clock.
        done: it has ended: the reply is complete, or will not come.
        failure: why it will not.
    """

    name: str
    member: _Member
    objects: frozenset[str]
    box: queue.SimpleQueue[str]
    reply: str = ""
    session: str = ""
    left: int = 0
    moved: float = 0.0
    done: bool = False
    failure: str = ""


class _Post(InMemoryLinkState):
    """Flower's state of a link, in memory, with instructions that are handed out until they are answered.

    Nothing of a message is written to disk.

    Args:
        limit: bytes that a reply may have.
        told: told what an operator should know; nothing of a message's content.
    """

    def __init__(self, limit: int, told: Callable[[str], None]) -> None:
        super().__init__(NoOpFederationManager(), InMemoryObjectStore())
        self.limit, self.told = limit, told
        self.members: dict[bytes, _Member] = {}
        self.dropped = 0
        self._waiting: dict[str, _Waiting] = {}
        self._sessions: dict[str, _Waiting] = {}
        self._numbers = count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # Held first wherever Flower takes two of its locks: it does not always take them in the same order.
        self._guard = threading.RLock()
        self._run = self._start()

    def state(self) -> _Post:
        """The state itself, which Flower's routes ask a factory for."""
        return self

    def _start(self) -> int:
        """Begin the one run that all messages belong to: Flower takes replies for a running one only."""
        run = self.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP)
        task = self.run_ids[run].run.primary_task_id
        assert task is not None
        self.claim_task(task)
        self.activate_task(task)
        # Flower ends a run whose task's token is not renewed.  Nobody holds this one: the run is ours.
        self.task_token_store.clear()
        self.task_token_to_task_id.clear()
        return run

    # Members.

    def admit(self, site: str, key: bytes) -> None:
        """See :meth:`FlowerRuntime.admit`."""
        try:
            public = bytes_to_public_key(key)
            if not isinstance(public, ec.EllipticCurvePublicKey) or not uses_nist_ec_curve(public):
                raise ValueError("no key of a NIST curve")
        except (ValueError, TypeError) as cause:
            raise ConfigError(f"the key of site {site} cannot be used: {cause}", "make an EC P-384 key") from cause
        key = public_key_to_bytes(public)
        with self._guard, self.lock:
            if key in self.members and self.members[key].site != site:
                raise ConfigError(f"sites {site} and {self.members[key].site} have the same key", "make one for each")
            self.revoke(site)
            self.node_public_key_to_node_id.pop(key, None)
            node = self.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_MIN_INTERVAL)
            # Flower keeps messages for nodes that were there once, and so are only away.
            super().activate_node(node, HEARTBEAT_MIN_INTERVAL)
            self.deactivate_node(node)
            self.members[key] = _Member(site, node)

    def revoke(self, site: str) -> None:
        """See :meth:`FlowerRuntime.revoke`."""
        with self._guard, self.lock:
            for key, member in list(self.members.items()):
                if member.site == site:
                    del self.members[key]
                    self.delete_node(NOOP_FLWR_AID, member.node)
                    for waiting in list(member.waiting.values()):
                        self._finish(waiting, "its key was revoked")

    def member(self, site: str) -> _Member | None:
        """The site, if it is admitted."""
        with self._guard:
            return next((member for member in self.members.values() if member.site == site), None)

    def _member_of(self, node: int | None) -> _Member | None:
        return next((member for member in self.members.values() if member.node == node), None)

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        """As in Flower, but also for a node that is still thought to be there: its process may have been killed."""
        with self.lock:
            self.deactivate_node(node_id)
            return super().activate_node(node_id, heartbeat_interval)

    def check(self, request: Any, process: str) -> None:
        """Refuse an authenticated request that its sender may not make.

        Raises:
            HTTPException: 409 if another process speaks for the site; 403 and 404 for what is another's; 400 for what
                no site of ours sends.
        """
        if isinstance(request, ActivateNodeRequest):
            node = self.get_node_id_by_public_key(request.public_key)
        else:
            node = request.node_id if isinstance(request, DeactivateNodeRequest) else request.node.node_id
        with self._guard:
            member = self._member_of(node)
            if member is None:
                raise HTTPException(403)
            self._speak(member, process, leaves=isinstance(request, DeactivateNodeRequest))
            if isinstance(request, PullObjectRequest):
                if not any(request.object_id in waiting.objects for waiting in member.waiting.values()):
                    raise HTTPException(404)
            elif isinstance(request, PushMessagesRequest):
                if [message.metadata.src_node_id for message in request.messages_list] != [node]:
                    raise HTTPException(403)
                if request.messages_list[0].metadata.run_id != self._run or len(request.message_object_trees) != 1:
                    raise HTTPException(400)
            elif isinstance(request, PushObjectRequest):
                waiting = self._sessions.get(request.session_id)
                if waiting is not None and waiting.member is not member:
                    raise HTTPException(403)

    def _speak(self, member: _Member, process: str, *, leaves: bool) -> None:
        moment = time.monotonic()
        if member.heard is None or member.process in ("", process) or moment - member.heard > _LEASE_SECONDS:
            member.process, member.heard = "" if leaves else process, moment
            if leaves:
                self._deliver(member)  # nobody reads the answer to a request that is held
        else:
            raise HTTPException(409)

    # Instructions.

    def send(self, site: str, data: bytes, box: queue.SimpleQueue[str]) -> str | None:
        """Keep an instruction for a site.

        Returns:
            Its name, which ``box`` gets when it has ended; None if the site is not admitted.
        """
        member = self.member(site)
        if member is None:
            return None
        number, moment = str(next(self._numbers)), now().timestamp()
        head = Metadata(self._run, "", SUPERLINK_NODE_ID, member.node, "", number, moment, _LIFETIME_SECONDS, "train")
        # Outside the lock, which others wait for: this hashes all bytes.
        parcel = _Parcel.of(make_message(head, _pack(data)))
        name = parcel.head.metadata.message_id
        with self._guard:
            if self.member(site) is not member:
                return None
            for missing in self.object_store.preregister(self._run, parcel.tree):
                self.object_store.put(missing, parcel.objects[missing].deflate())
            stored = self.store_message_ins(parcel.head)
            assert stored, "Flower refuses a message of ours"
            waiting = _Waiting(name, member, frozenset(parcel.objects), box)
            self._waiting[name] = member.waiting[name] = waiting
        self._deliver(member)
        return name

    def take(self, name: str) -> bytes | str:
        """The reply to an instruction that has ended, or why there is none.  Both are forgotten here."""
        with self._guard:
            waiting = self._waiting[name]
            reply = waiting.reply
            message = self.message_res_store.get(reply)
            contents: dict[str, bytes] = {}
            if not waiting.failure and message is not None:
                for node in iterate_object_tree(self.object_store.get_object_tree(reply)):
                    contents[node.object_id] = self.object_store.get(node.object_id) or b""
            self.withdraw(name)
        if waiting.failure or message is None:
            return waiting.failure or "its reply was lost"
        if message.has_error():
            return "".join(filter(str.isprintable, message.error.reason or "it says that it failed"))[:200]
        try:
            return _unpack(reply, contents, self.limit)
        except MessageError as error:
            return error.what

    def withdraw(self, name: str) -> None:
        """Forget an instruction and its reply, if it is still there."""
        with self._guard:
            waiting = self._waiting.pop(name, None)
            if waiting is None:
                return
            waiting.member.waiting.pop(name, None)
            self._forget_reply(waiting)
            self.delete_messages({name})
            self.object_store.delete(name)

    def get_message_ins(self, node_id: int, *_: object, **__: object) -> list[Message]:
        """The oldest instruction of a node that has no complete reply.

        A site asks for work when it has none: what was handed to it before, it has lost.
        """
        with self._guard, self.lock:
            member = self._member_of(node_id)
            return [] if member is None else [self.message_ins_store[name] for name in self._open(member)[:1]]

    def _open(self, member: _Member) -> list[str]:
        return [name for name, waiting in member.waiting.items() if not waiting.done]

    # Replies.

    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """As in Flower, but a site that was killed while it pushed a reply may begin anew."""
        with self._guard:
            missing = self._begin_reply(message, object_tree, session_id)
            if not missing:
                self._cleanup_push_session(session_id, cleanup_messages=False)
            return bool(missing), missing

    def _begin_reply(self, message: Message, tree: ObjectTree, session: str) -> list[str]:
        """Returns: names of the objects that are to come; none if the reply is not wanted, or complete."""
        waiting = self._waiting.get(message.metadata.reply_to_message_id)
        if waiting is None or waiting.done:
            self.dropped += 1
            sender = self._member_of(message.metadata.src_node_id)
            self.told(f"{sender.site if sender else 'a site'}: a reply was dropped: it came too late, or twice")
            return []
        if sum(1 for _ in iterate_object_tree(tree)) > _most_objects(self.limit):
            self._cleanup_push_session(session, cleanup_messages=False)
            raise self._too_large(waiting)
        if not waiting.reply and not self._has_room():
            self._cleanup_push_session(session, cleanup_messages=False)
            raise HTTPException(503)  # the site tries again
        if waiting.reply != message.metadata.message_id:
            self._forget_reply(waiting)
        self._sessions.pop(waiting.session, None)
        stored, missing = super().store_message_and_object_tree(message, tree, session)
        if stored:
            waiting.reply, waiting.session = message.metadata.message_id, session
            waiting.left, waiting.moved = self.limit + _SLACK_BYTES, time.monotonic()
            self._sessions[session] = waiting
            if not missing:
                self._finish(waiting)
        return missing

    def _has_room(self) -> bool:
        """Whether another reply may come in; one that has stalled gives way."""
        under_way = [waiting for waiting in self._waiting.values() if waiting.reply]
        if len(under_way) < _MOST_REPLIES:
            return True
        for waiting in under_way:
            if not waiting.done and time.monotonic() - waiting.moved > _STALLED_SECONDS:
                self._forget_reply(waiting)
                return True
        return False

    def store_object(self, run_id: int, session_id: str, object_id: str, object_content: bytes) -> bool:
        """As in Flower, but no reply has more than its share, and whoever waits is told when it is complete."""
        with self._guard:
            waiting = self._sessions.get(session_id)
            if waiting is None or waiting.done:
                return False
            waiting.left -= len(object_content)
            if waiting.left < 0:
                raise self._too_large(waiting)
            stored = super().store_object(run_id, session_id, object_id, object_content)
            waiting.moved = time.monotonic()
            if stored and session_id not in self._object_push_sessions:
                self._finish(waiting)
            return stored

    def get_object(self, run_id: int, object_id: str) -> bytes | None:
        """As in Flower, which may clear up here, with two locks."""
        with self._guard:
            return super().get_object(run_id, object_id)

    def _too_large(self, waiting: _Waiting) -> HTTPException:
        self._finish(waiting, f"its reply has more than {self.limit} bytes")
        return HTTPException(413)

    def _finish(self, waiting: _Waiting, failure: str = "") -> None:
        if not waiting.done:
            waiting.done, waiting.failure = True, failure
            self._sessions.pop(waiting.session, None)
            if failure:
                self._forget_reply(waiting)
            waiting.box.put(waiting.name)

    def _forget_reply(self, waiting: _Waiting) -> None:
        self._sessions.pop(waiting.session, None)
        self._cleanup_push_session(waiting.session, cleanup_messages=False)
        message = self.message_res_store.pop(waiting.reply, None)
        if message is not None:
            self.message_ins_id_to_message_res_id.pop(message.metadata.reply_to_message_id, None)
            self.object_store.delete(waiting.reply)
        waiting.reply = waiting.session = ""

    # Requests for work that are held.

    async def hold(self, member: _Member) -> None:
        """Wait until there is work for a site, but no longer than a request may take."""
        self._loop = asyncio.get_running_loop()
        member.mail.clear()
        with self._guard:
            if self._closed or self._open(member):
                return
        with suppress(TimeoutError):
            await asyncio.wait_for(member.mail.wait(), _HOLD_SECONDS)

    def close(self) -> None:
        """Hold no request any more."""
        with self._guard:
            self._closed = True
            members = list(self.members.values())
        for member in members:
            self._deliver(member)

    def _deliver(self, member: _Member) -> None:
        if self._loop is not None:  # until somebody waits, there is nobody to wake
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(member.mail.set)


class _Checks:
    """Flower's log of events, as the place that sees each request once its sender is known."""

    def __init__(self, post: _Post) -> None:
        self._post = post

    def compose_log_before_event(self, *, request: Any, context: Any, **_: object) -> Any:
        """Refuse what may not be asked; see :meth:`_Post.check`."""
        self._post.check(request, context.headers.get(_PROCESS_HEADER, ""))

    def compose_log_after_event(self, **_: object) -> Any:
        """Nothing is logged."""

    def write_log(self, log_entry: Any) -> None:
        """Nothing is logged."""


class _Gate:
    """Stands before Flower's routes: lets known keys through, to what a site needs, with requests of a bounded size.

    A stranger's request is refused before its body is read.
    """

    def __init__(self, post: _Post) -> None:
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
        if headers.get(_VERSION_HEADER) != _VERSION.encode():
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

    def _sender(self, headers: Mapping[str, bytes]) -> tuple[_Member | None, bool]:
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
        most = _SLACK_BYTES + (_CHUNK_BYTES if path == _PUSH_OBJECT else _most_objects(self._post.limit) * _TREE_BYTES)
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


class FlowerRuntime(Runtime):
    """The way to sites on machines of their own.

    Attributes:
        port: where the server listens.
    """

    def __init__(self, post: _Post, port: int) -> None:
        self._post = post
        self.port = port

    @property
    def dropped(self) -> int:
        """Replies that came too late, or twice."""
        return self._post.dropped

    def ask(
        self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None
    ) -> Iterator[tuple[int, bytes | str]]:
        """See :class:`fedse.federation.runtimes.Runtime`.

        A site that is away gets its instruction when it is back.  What is not answered when the deadline has passed,
        or when nobody iterates any more, is withdrawn: a reply to it is dropped.
        """
        ends = None if deadline is None else time.monotonic() + deadline
        box: queue.SimpleQueue[str] = queue.SimpleQueue()
        waiting: dict[str, tuple[int, str]] = {}
        try:
            for index, (site, data) in enumerate(instructions):
                name = self._post.send(site, data, box)
                if name is None:
                    yield index, self._told(site, "it is not admitted")
                else:
                    waiting[name] = index, site
                while not box.empty():
                    yield self._take(box.get(), waiting)
            while waiting:
                try:
                    name = box.get(timeout=None if ends is None else max(0.0, ends - time.monotonic()))
                except queue.Empty:
                    break
                yield self._take(name, waiting)
            for _, site in waiting.values():
                self._post.told(f"{site}: no answer within {deadline:g} s")
        finally:
            for name in waiting:
                self._post.withdraw(name)

    def _take(self, name: str, waiting: dict[str, tuple[int, str]]) -> tuple[int, bytes | str]:
        index, site = waiting.pop(name)
        reply = self._post.take(name)
        return index, reply if isinstance(reply, bytes) else self._told(site, reply)

    def _told(self, site: str, reason: str) -> str:
        self._post.told(f"{site}: no answer: {reason}")
        return reason

    def heard(self) -> dict[str, float]:
        """Site → seconds since it was last heard of; without those that were never."""
        moment = time.monotonic()
        members = list(self._post.members.values())
        return {member.site: moment - member.heard for member in members if member.heard is not None}

    def reachable(self, sites: Collection[str]) -> Collection[str]:
        """Those that were heard of lately."""
        heard = self.heard()
        return [site for site in sites if heard.get(site, _SILENT_SECONDS) < _SILENT_SECONDS]

    def admit(self, site: str, key: bytes) -> None:
        """Let a site take part, from now on with this key only.

        Args:
            site: its name.
            key: its public EC key, PEM.

        Raises:
            ConfigError: if the key cannot be used.
        """
        self._post.admit(site, key)

    def revoke(self, site: str) -> None:
        """Let a site take part no more.  It is not waited for any longer."""
        self._post.revoke(site)


@contextmanager
def link(
    listen: tuple[str, int],
    *,
    certificate: Path,
    private_key: Path,
    sites: Mapping[str, bytes],
    limit: int,
    told: Callable[[str], None],
) -> Iterator[FlowerRuntime]:
    """Listen for sites while the block runs.

    Args:
        listen: address and port; port 0 takes a free one.
        certificate: the server's, PEM, with those between it and the authority.
        private_key: its key, PEM.
        sites: site → its public EC key, PEM.
        limit: bytes that a reply may have.
        told: told, from several threads, what an operator should know; nothing of a message's content.

    Raises:
        ConfigError: if a certificate or key cannot be used.
        RunError: if the address cannot be listened at.
    """
    post = _Post(limit, told)
    for site, key in sites.items():
        post.admit(site, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, private_key)
    except OSError as cause:  # as are the errors of TLS
        raise ConfigError(f"the server's certificate {certificate} or its key cannot be used: {cause}") from cause
    family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
    try:
        listener = socket.create_server(listen, family=family, backlog=128)
    except OSError as cause:
        raise RunError(f"cannot listen at {listen[0]}:{listen[1]}: {cause}", "is another server running?") from cause
    config = uvicorn.Config(
        _Gate(post),
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="flower-link", daemon=True)
    thread.start()
    try:
        yield FlowerRuntime(post, listener.getsockname()[1])
    finally:
        server.should_exit = True
        post.close()
        thread.join()
        listener.close()


# --- the site's end -------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """The site is to end."""


class _Unknown(Exception):
    """The server does not know the node, or not this signature."""


class _TooLarge(Exception):
    """The server refuses to take what is too large."""


class _Wire:
    """Signs each request of Flower's client with the server's clock and carries it, with a bounded answer.

    Args:
        context: whom to trust.
        key: the site's private key.
        proxies: go through the proxy that the environment names, if it names one.
    """

    def __init__(self, context: ssl.SSLContext, key: ec.EllipticCurvePrivateKey, *, proxies: bool) -> None:
        self._key = key
        self._public = base64.b64encode(public_key_to_bytes(key.public_key())).decode()
        self._process = secrets.token_hex(8)
        self._client = httpx.Client(verify=context, timeout=_ANSWER_SECONDS, trust_env=proxies)
        self._ahead = timedelta()

    def close(self) -> None:
        self._client.close()

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:  # noqa: ARG002
        """Send a request.  ``call_next`` would read an answer of any size."""
        moment = (now() + self._ahead).isoformat()
        request = context.request
        request.headers.update(
            {
                FLEET_HTTP_PUBLIC_KEY_HEADER: self._public,
                FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(sign_message(self._key, moment.encode())).decode(),
                TIMESTAMP_HEADER: moment,
                _PROCESS_HEADER: self._process,
                _VERSION_HEADER: _VERSION,
                "accept-encoding": "identity",
            }
        )
        answer = self._client.send(request, stream=True)
        try:
            body = bytearray()
            for part in answer.iter_raw():
                body += part
                if len(body) > _CHUNK_BYTES + _SLACK_BYTES:
                    raise MessageError("the server sends more than a chunk at a time")
        finally:
            answer.close()
        with suppress(KeyError, ValueError):
            self._ahead = parsedate_to_datetime(answer.headers["date"]) - now()
        return httpx.Response(answer.status_code, content=bytes(body), request=request)


_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class _SiteEnd:
    def __init__(
        self,
        server: str,
        authority: Path,
        private_key: Path,
        stop: threading.Event,
        told: Callable[[str], None],
        limit: int,
    ) -> None:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigError(f"{server!r} is no address of a server", "write host:port")
        try:
            context = ssl.create_default_context(cafile=authority)
        except OSError as cause:
            raise ConfigError(f"the authority's certificate {authority} cannot be used: {cause}") from cause
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            key = bytes_to_private_key(private_key.read_bytes())
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError("not an EC key")
        except (OSError, ValueError, TypeError) as cause:
            raise ConfigError(f"the site's key {private_key} cannot be used: {cause}") from cause
        self._server, self._stop, self._told, self._limit = server, stop, told, limit
        self._public = public_key_to_bytes(key.public_key())
        self._wire = _Wire(context, key, proxies=host not in ("127.0.0.1", "localhost", "[::1]"))
        self._client = FleetHttpClient(f"https://{server}", interceptors=[self._wire], verify=context)
        self._trouble = ""
        self._spoke = 0.0
        self._closed = False
        self.node = 0

    def close(self) -> None:
        """Tell the server that the site leaves, if it can be told, and hang up."""
        self._leave()
        self._closed = True
        self._client.close()
        self._wire.close()

    def _leave(self) -> None:
        if self.node:
            with suppress(httpx.HTTPError, MessageError, ValueError):
                self._client.DeactivateNode(DeactivateNodeRequest(node_id=self.node))

    def activate(self) -> None:
        """Be known to the server as being there."""
        for _ in range(2):  # the first refusal may be for the clock, and brings the server's
            request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_MIN_INTERVAL)
            with suppress(_Unknown):
                self.node = self._call(self._client.ActivateNode, request).node_id
                return
        raise _not_accepted(self._server)

    def beat(self) -> None:
        """Send signs of life while the site speaks of nothing else, and say at once when it is to stop.

        What goes wrong here goes wrong for the next request too, which deals with it.
        """
        try:
            while not self._stop.wait(_HOLD_SECONDS):
                if time.monotonic() - self._spoke < _HOLD_SECONDS:
                    continue
                with suppress(httpx.TransportError, MessageError, ValueError):
                    self._beat()
            self._leave()  # the server then ends a request that it holds
        except RuntimeError:
            if not self._closed:
                raise

    def _beat(self) -> None:
        request = SendNodeHeartbeatRequest(node=Node(node_id=self.node), heartbeat_interval=HEARTBEAT_MIN_INTERVAL)
        try:
            self._client.SendNodeHeartbeat(request)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED:  # the server has been restarted
                with suppress(FedseError, _Stopped):
                    self.activate()

    def poll(self) -> tuple[Message, ObjectTree] | None:
        """The next instruction, without its content, and the tree of its objects."""
        answer = self._call(self._client.PullMessages, PullMessagesRequest(node=Node(node_id=self.node)))
        if not answer.messages_list or not answer.message_object_trees:
            return None
        return message_from_proto(answer.messages_list[0]), answer.message_object_trees[0]

    def pull(self, message: Message, tree: ObjectTree) -> bytes | None:
        """An instruction's bytes; None if the server has withdrawn it."""
        names = {node.object_id for node in iterate_object_tree(tree)}
        if len(names) > _most_objects(self._limit):
            raise MessageError(f"more than {self._limit} bytes")
        contents: dict[str, bytes] = {}
        left = self._limit + _SLACK_BYTES
        for name in names:
            request = PullObjectRequest(node=Node(node_id=self.node), run_id=message.metadata.run_id, object_id=name)
            answer = self._call(self._client.PullObject, request, missing=True)
            if answer is None or not answer.object_available:
                return None
            contents[name] = answer.object_content
            left -= len(answer.object_content)
            if left < 0:
                raise MessageError(f"more than {self._limit} bytes")
        return _unpack(tree.object_id, contents, self._limit)

    def push(self, message: Message) -> None:
        """Send a reply, all of it, unless the server does not want it any more."""
        parcel = _Parcel.of(message)
        node = Node(node_id=message.metadata.src_node_id)
        head = PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(parcel.head)],
            message_object_trees=[parcel.tree],
            clientapp_runtime_list=[0.0],
        )
        for _ in range(10):
            answer = self._call(self._client.PushMessages, head)
            missing = set(answer.objects_to_push)
            for name, content in parcel.objects.items():
                if name in missing:
                    request = PushObjectRequest(
                        node=node,
                        run_id=message.metadata.run_id,
                        object_id=name,
                        object_content=content.deflate(),
                        session_id=answer.session_id,
                    )
                    if not self._call(self._client.PushObject, request).stored:
                        break  # it took too long, and the server has made room: begin anew
            else:
                return
        self._told("the server did not take the reply")

    def _call(self, send: Callable[[_Request], _Answer], request: _Request, *, missing: bool = False) -> Any:
        """Have a request answered, however long the server or the network is away.

        Args:
            send: sends it.
            request: what to send.
            missing: return None where the server does not find what is asked for.

        Raises:
            FedseError: for what no retry mends.
        """
        wait = 0.1
        while not self._stop.is_set():
            trouble = ""
            try:
                answer = send(request)
            except httpx.TransportError as error:
                _check_certificate(self._server, error)
                trouble = f"cannot be reached ({error})"
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if missing and status == httpx.codes.NOT_FOUND:
                    return None
                if status == httpx.codes.UNAUTHORIZED:
                    raise _Unknown from None
                if status == httpx.codes.FORBIDDEN:
                    raise _not_accepted(self._server) from None
                if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                    raise _TooLarge from None
                if status == httpx.codes.UPGRADE_REQUIRED:
                    raise RunError(
                        f"the server {self._server} has another version of Flower than this site ({_VERSION})",
                        "install the same version of fedse on both sides",
                    ) from None
                if status == httpx.codes.CONFLICT:
                    trouble = "says that another process speaks for this site, or did a moment ago"
                elif status != httpx.codes.SERVICE_UNAVAILABLE:  # which says that it is busy
                    trouble = f"answers with status {status}"
            except ValueError:
                trouble = "gives an answer that cannot be read"
            else:
                if self._trouble:
                    self._told(f"the server {self._server} answers again")
                self._trouble, self._spoke = "", time.monotonic()
                return answer
            if trouble and trouble != self._trouble:
                self._told(f"the server {self._server} {trouble}; trying again")
                self._trouble = trouble
            self._stop.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise _Stopped


def _not_accepted(server: str) -> RunError:
    return RunError(
        f"the server {server} does not accept this site's key",
        "it was never admitted, or is revoked: ask the operator of the server to add this site's public key",
    )


def _check_certificate(server: str, error: BaseException) -> None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise RunError(
                f"the certificate of the server {server} is not valid: {cause.verify_message}",
                "check the server's address, this machine's clock, and that the authority's certificate is the server's"
                " own; ask its operator for a new one if it has expired",
            ) from error
        cause = cause.__cause__ or cause.__context__


def serve(
    server: str,
    *,
    authority: Path,
    private_key: Path,
    answer: Callable[[bytes], bytes],
    stop: threading.Event,
    told: Callable[[str], None],
    limit: int,
) -> None:
    """Take part as a site until stopped.

    Outlasts the server's and the network's absence.  An instruction is answered again if the process dies before its
    reply has arrived, and a reply is dropped if the server has died, because it will ask again.

    Args:
        server: ``host:port``.
        authority: certificate of whom the server's certificate comes from, PEM.
        private_key: the site's EC key, PEM, without a password.
        answer: the reply to an instruction; called in this thread.
        stop: ends this, at the next request if one is being answered.
        told: told, from two threads, what an operator should know; nothing of a message's content.
        limit: bytes that an instruction may have.

    Raises:
        ConfigError: if a certificate or key cannot be used.
        RunError: if the server does not accept the key, its certificate is not valid, or it has another version.
    """
    site = _SiteEnd(server, authority, private_key, stop, told, limit)
    heart = threading.Thread(target=site.beat, name="flower-heartbeat", daemon=True)
    try:
        with suppress(_Stopped):
            site.activate()
            told(f"connected to the server {server}")
            heart.start()
            while not stop.is_set():
                try:
                    work = site.poll()
                    if work is not None:
                        _answer(site, work, answer, told, limit)
                except _Unknown:
                    told(f"the server {server} was restarted: what it asked before is dropped")
                    site.activate()
    finally:
        site.close()


def _answer(
    site: _SiteEnd,
    work: tuple[Message, ObjectTree],
    answer: Callable[[bytes], bytes],
    told: Callable[[str], None],
    limit: int,
) -> None:
    message, tree = work

    def fail(reason: str) -> None:
        site.push(Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message))

    try:
        data = site.pull(message, tree)
    except MessageError as error:
        told(f"an instruction was refused: {error.what}")
        fail(f"it refuses an instruction of more than {limit} bytes, or without a packed array")
        return
    if data is None:
        return
    try:
        reply = answer(data)
    except FedseError as error:
        told(str(error))
        # The error's text stays here: it may tell of the site's data.
        fail(f"it failed with {type(error).__name__}; its own log says why")
        return
    try:
        site.push(Message(_pack(reply), reply_to=message))
    except _TooLarge:
        told(f"the server refused a reply of {len(reply)} bytes as too large")
        fail(f"its reply of {len(reply)} bytes is too large")


# --- simulation -----------------------------------------------------------------------------------------------------

#: Bytes that go through the socket between this machine's own processes; not the limit of a federation.
_UNLIMITED = 2**31 - 1
_LOOK_SECONDS = 0.02
#: Instructions that are sent between two looks: a look takes time for each that waits.
_LOOK_EACH = 50
#: Ray keeps Unix sockets some seventy bytes below its folder.
_LONGEST_FOLDER = 30


class SimulationRuntime(Runtime):
    """The way to simulated sites."""

    def __init__(
        self, engine: threading.Thread, grid: Grid, nodes: Mapping[str, int], host: Path, failures: list[Exception]
    ) -> None:
        self._engine, self._grid, self._nodes, self._host, self._failures = engine, grid, nodes, host, failures

    def ask(
        self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """See :class:`fedse.federation.runtimes.Runtime`.

        Raises:
            Exception: what a site raised.
            RunError: if the simulation ends by itself.
        """
        ends = None if deadline is None else time.monotonic() + deadline
        waiting: dict[str, int] = {}
        for index, (site, data) in enumerate(instructions):
            content = _pack(data)
            content["to"] = ConfigRecord({"site": site, "host": str(self._host)})
            message = Message(content, self._nodes[site], "train", ttl=_LIFETIME_SECONDS)
            [name] = self._grid.push_messages([message])
            waiting[name] = index
            if index % _LOOK_EACH == 0:
                yield from self._take(waiting)
        while waiting and (ends is None or time.monotonic() < ends):
            if not self._engine.is_alive():
                raise RunError("Flower's simulation has ended", "the system may have run out of memory: resume")
            time.sleep(_LOOK_SECONDS + len(waiting) / 5_000)  # the engine waits while we look, longer where more waits
            yield from self._take(waiting)

    def _take(self, waiting: dict[str, int]) -> Iterator[tuple[int, bytes]]:
        for message in self._grid.pull_messages(list(waiting)):
            index = waiting.pop(message.metadata.reply_to_message_id)
            if self._failures:
                raise self._failures[0]
            if message.has_error():
                raise RunError(f"Flower's simulation failed: {message.error.reason}")
            yield index, _packed(message)


def _packed(message: Message) -> bytes:
    return message.content.array_records["bytes"]["bytes"].data


def _forward(message: Message, context: Context) -> Message:  # noqa: ARG001
    """A simulated node's whole work, in a process of Ray: ask the process that has the sites."""
    to = message.content.config_records["to"]
    question = str(to["site"]).encode() + b"\0" + _packed(message)
    return Message(_pack(call(Path(str(to["host"])), question, limit=_UNLIMITED)), reply_to=message)


@contextmanager
def simulation(sites: Sequence[str], answer: Callable[[str, bytes], bytes]) -> Iterator[SimulationRuntime]:
    """Simulate a federation with Flower on this machine while the block runs.

    Flower's engine moves the messages, through a process of Ray.  The sites themselves are in this process and take
    turns, so that nothing is loaded twice.

    Args:
        sites: their names.
        answer: (site, instruction) → its reply; called in other threads, but never in two at a time.  What it raises
            ends :meth:`SimulationRuntime.ask`.

    Raises:
        ConfigError: if Ray is not installed.
        RunError: if the simulation does not start.
    """
    try:
        import ray
    except ImportError as cause:
        raise ConfigError(
            f"a simulation with Flower needs Ray, which is not installed ({cause})", 'pip install "fedse[simulation]"'
        ) from cause
    failures: list[Exception] = []
    turn = threading.Lock()

    def host(question: bytes) -> bytes:
        site, _, data = question.partition(b"\0")
        with turn:
            try:
                return answer(site.decode(), data)
            except Exception as error:
                failures.append(error)
                return b""

    grids: queue.SimpleQueue[Grid | Exception] = queue.SimpleQueue()
    over = threading.Event()
    server, client = ServerApp(), ClientApp()
    client.train()(_forward)

    @server.main()
    def _(grid: Grid, context: Context) -> None:  # noqa: ARG001
        grids.put(grid)
        over.wait()

    def run() -> None:
        try:
            run_simulation(server, client, len(sites), backend_config={"client_resources": {"num_cpus": 1}})
        except Exception as error:
            grids.put(error)

    with TemporaryDirectory() as folder, SocketServer(Path(folder, "host"), host, limit=_UNLIMITED):
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
            _temp_dir=folder if len(folder) <= _LONGEST_FOLDER else None,
        )
        thread = threading.Thread(target=run, name="flower-simulation", daemon=True)
        thread.start()
        try:
            grid = grids.get()
            if isinstance(grid, Exception):
                raise RunError(f"Flower's simulation does not start: {grid}") from grid
            nodes: list[int] = []
            while len(nodes) < len(sites):  # they are registered while the server's end begins
                time.sleep(_LOOK_SECONDS)
                nodes = sorted(grid.get_node_ids())
            yield SimulationRuntime(thread, grid, dict(zip(sites, nodes, strict=True)), Path(folder, "host"), failures)
        finally:
            over.set()
            thread.join()
            ray.shutdown()
