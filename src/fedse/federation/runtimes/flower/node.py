"""The site's end: a Flower node in the site's process."""

from __future__ import annotations

import base64
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.common.constant import HEARTBEAT_MIN_INTERVAL, TIMESTAMP_HEADER, ErrorCode
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
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedse.errors import ConfigError, FedseError, MessageError, RunError
from fedse.federation.runtimes.flower.packing import (
    CHUNK_BYTES,
    HOLD_SECONDS,
    PROCESS_HEADER,
    SLACK_BYTES,
    VERSION,
    VERSION_HEADER,
    Parcel,
    most_objects,
    pack,
    unpack,
)

#: Seconds without a byte, and for an answer as a whole, which is a chunk over a line that may be slow.
_ANSWER_SECONDS, _WHOLE_SECONDS = 30.0, 600.0
_LONGEST_WAIT_SECONDS = 2.0


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
                PROCESS_HEADER: self._process,
                VERSION_HEADER: VERSION,
                "accept-encoding": "identity",
            }
        )
        latest = time.monotonic() + _WHOLE_SECONDS
        answer = self._client.send(request, stream=True)
        try:
            body = bytearray()
            for part in answer.iter_raw():
                body += part
                if len(body) > CHUNK_BYTES + SLACK_BYTES:
                    raise MessageError("the server sends more than a chunk at a time")
                if time.monotonic() > latest:
                    raise httpx.ReadTimeout("the answer as a whole takes too long", request=request)
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
            while not self._stop.wait(HOLD_SECONDS):
                if time.monotonic() - self._spoke < HOLD_SECONDS:
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
        try:
            return message_from_proto(answer.messages_list[0]), answer.message_object_trees[0]
        except (AttributeError, LookupError, TypeError, ValueError) as cause:
            raise MessageError(f"the server sends what is no message: {type(cause).__name__}") from cause

    def pull(self, message: Message, tree: ObjectTree) -> bytes | None:
        """An instruction's bytes; None if the server has withdrawn it."""
        names = {node.object_id for node in iterate_object_tree(tree)}
        if len(names) > most_objects(self._limit):
            raise MessageError(f"more than {self._limit} bytes")
        contents: dict[str, bytes] = {}
        left = self._limit + SLACK_BYTES
        for name in names:
            request = PullObjectRequest(node=Node(node_id=self.node), run_id=message.metadata.run_id, object_id=name)
            answer = self._call(self._client.PullObject, request, missing=True)
            if answer is None or not answer.object_available:
                return None
            contents[name] = answer.object_content
            left -= len(answer.object_content)
            if left < 0:
                raise MessageError(f"more than {self._limit} bytes")
        return unpack(tree.object_id, contents, self._limit)

    def push(self, message: Message) -> None:
        """Send a reply, all of it, unless the server does not want it any more."""
        parcel = Parcel.of(message)
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
                        f"the server {self._server} has another version of Flower than this site ({VERSION})",
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
                except MessageError as error:  # whatever a server sends, it does not end its sites
                    told(f"{error.what}; trying again")
                    stop.wait(_LONGEST_WAIT_SECONDS)
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
        site.push(Message(pack(reply), reply_to=message))
    except _TooLarge:
        told(f"the server refused a reply of {len(reply)} bytes as too large")
        fail(f"its reply of {len(reply)} bytes is too large")
