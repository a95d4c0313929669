"""What waits for whom: the instructions of the server and the replies of its sites, as Flower keeps messages."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import HTTPException
from flwr.app import Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import (
    HEARTBEAT_MIN_INTERVAL,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
)
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, uses_nist_ec_curve
from flwr.superlink.federation import NoOpFederationManager

from fedse.errors import ConfigError, MessageError
from fedse.federation.runtimes.flower.packing import (
    HOLD_SECONDS,
    LIFETIME_SECONDS,
    SLACK_BYTES,
    Parcel,
    most_objects,
    pack,
    unpack,
)

#: Seconds of silence after which another process may speak for a site.
_LEASE_SECONDS = 8.0
#: Seconds of silence after which a reply that is being pushed gives way to others.
_STALLED_SECONDS = 30.0
#: Replies that the server takes in or keeps at a time; more would make its memory grow with the number of sites.
_MOST_REPLIES = 8


@dataclass(slots=True)
class Member:
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
    member: Member
    objects: frozenset[str]
    box: queue.SimpleQueue[str]
    reply: str = ""
    session: str = ""
    left: int = 0
    moved: float = 0.0
    done: bool = False
    failure: str = ""


class Post(InMemoryLinkState):
    """Flower's state of a link, in memory, with instructions that are handed out until they are answered.

    Nothing of a message is written to disk.

    Args:
        limit: bytes that a reply may have.
        told: told what an operator should know; nothing of a message's content.
    """

    def __init__(self, limit: int, told: Callable[[str], None]) -> None:
        super().__init__(NoOpFederationManager(), InMemoryObjectStore())
        self.limit, self.told = limit, told
        self.members: dict[bytes, Member] = {}
        self.dropped = 0
        self._waiting: dict[str, _Waiting] = {}
        self._sessions: dict[str, _Waiting] = {}
        self._numbers = count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # Held first wherever Flower takes two of its locks: it does not always take them in the same order.
        self._guard = threading.RLock()
        self._run = self._start()

    def state(self) -> Post:
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
        """See :meth:`fedse.federation.runtimes.flower.link.FlowerRuntime.admit`."""
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
            self.members[key] = Member(site, node)

    def revoke(self, site: str) -> None:
        """See :meth:`fedse.federation.runtimes.flower.link.FlowerRuntime.revoke`."""
        with self._guard, self.lock:
            for key, member in list(self.members.items()):
                if member.site == site:
                    del self.members[key]
                    self.delete_node(NOOP_FLWR_AID, member.node)
                    for waiting in list(member.waiting.values()):
                        self._finish(waiting, "its key was revoked")

    def member(self, site: str) -> Member | None:
        """The site, if it is admitted."""
        with self._guard:
            return next((member for member in self.members.values() if member.site == site), None)

    def _member_of(self, node: int | None) -> Member | None:
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

    def _speak(self, member: Member, process: str, *, leaves: bool) -> None:
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

    def _open(self, member: Member) -> list[str]:
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

    async def hold(self, member: Member) -> None:
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

    def _deliver(self, member: Member) -> None:
        if self._loop is not None:  # until somebody waits, there is nobody to wake
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(member.mail.set)
