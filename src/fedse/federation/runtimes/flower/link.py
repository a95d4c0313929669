"""The server's end: the part of Flower's SuperLink that sites need, in the server's process."""

from __future__ import annotations

import asyncio
import base64
import queue
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, HTTPException
from flwr.app import Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import (
    HEARTBEAT_MIN_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    TIMESTAMP_HEADER,
)
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
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
    iterate_object_tree,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    public_key_to_bytes,
    uses_nist_ec_curve,
    verify_signature,
)
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from fedse.errors import ConfigError, MessageError, RunError
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.flower.packing import (
    CHUNK_BYTES,
    HOLD_SECONDS,
    LIFETIME_SECONDS,
    PROCESS_HEADER,
    SLACK_BYTES,
    VERSION,
    VERSION_HEADER,
    Parcel,
    most_objects,
    pack,
    unpack,
)

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

#: Seconds of silence after which another process may speak for a site.
_LEASE_SECONDS = 8.0
#: Seconds of silence after which a reply that is being pushed gives way to others.
_STALLED_SECONDS = 30.0
#: Seconds in which a request must have arrived: a chunk over a line of 30 kB/s.
_BODY_SECONDS = 180.0
#: Replies that the server takes in or keeps at a time; more would make its memory grow with the number of sites.
_MOST_REPLIES = 8
#: Seconds of silence after which a site is not asked.  One that takes part is heard of every few seconds, unless it
#: pushes a reply over a slow line.
_SILENT_SECONDS = 90.0

_Scope = MutableMapping[str, Any]
_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]


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
        head = Metadata(self._run, "", SUPERLINK_NODE_ID, member.node, "", number, moment, LIFETIME_SECONDS, "train")
        # Outside the lock, which others wait for: this hashes all bytes.
        parcel = Parcel.of(make_message(head, pack(data)))
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
            return unpack(reply, contents, self.limit)
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
        if sum(1 for _ in iterate_object_tree(tree)) > most_objects(self.limit):
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
            waiting.left, waiting.moved = self.limit + SLACK_BYTES, time.monotonic()
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
            await asyncio.wait_for(member.mail.wait(), HOLD_SECONDS)

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
        self._post.check(request, context.headers.get(PROCESS_HEADER, ""))

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
