"""Sites that are joined by Flower: real TLS on loopback, real keys."""

from __future__ import annotations

import base64
import datetime
import importlib
import ipaddress
import multiprocessing
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedse.errors import ConfigError, FedseError, MessageError, RunError
from fedse.federation.runtimes.flower import node as site_end
from fedse.federation.runtimes.flower import packing
from fedse.federation.runtimes.flower import post as server_end
from fedse.federation.runtimes.flower.link import FlowerRuntime, link
from fedse.federation.runtimes.flower.node import _SiteEnd, serve

LIMIT = 12_000_000
HOUR = datetime.timedelta(hours=1)


@dataclass
class Keys:
    """An authority, a server's certificate, and sites' keys, in one folder."""

    folder: Path
    authority: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    def __post_init__(self) -> None:
        self._certify("authority", self.authority, days=2)
        self.certify_server()

    def certify_server(self, *, days: float = 1) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        self._certify("server", key, days=days)
        self._write_key("server", key)

    def site(self, name: str) -> bytes:
        """Make a site's key; returns the public one."""
        key = ec.generate_private_key(ec.SECP384R1())
        self._write_key(name, key)
        return key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _certify(self, name: str, key: ec.EllipticCurvePrivateKey, days: float) -> None:
        now = datetime.datetime.now(datetime.UTC)
        begins, ends = now - datetime.timedelta(days=3), now + datetime.timedelta(days=days)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), False)
            .add_extension(x509.KeyUsage(True, *4 * [False], name == "authority", *3 * [False]), critical=True)
            .sign(self.authority, hashes.SHA256())
        )
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@dataclass
class Told:
    """What an operator was told."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def wait(self, part: str) -> str:
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            for line in list(self.lines):
                if part in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"nobody told of {part!r}, but {self.lines}")


@pytest.fixture
def told() -> Told:
    return Told()


@contextmanager
def server(
    keys: Keys, told: Told, *names: str, port: int = 0, limit: int = LIMIT, known: dict[str, bytes] | None = None
) -> Iterator[FlowerRuntime]:
    sites = known if known is not None else {name: keys.site(name) for name in names}
    folder = keys.folder
    with link(
        ("127.0.0.1", port),
        certificate=folder / "server.pem",
        private_key=folder / "server.key",
        sites=sites,
        limit=limit,
        told=told,
    ) as runtime:
        yield runtime


@dataclass
class Site:
    """A site's end in a thread."""

    stop: threading.Event
    thread: threading.Thread
    told: Told
    errors: list[FedseError]

    def error(self) -> FedseError:
        self.thread.join(20)
        assert not self.thread.is_alive()
        [error] = self.errors
        return error


@contextmanager
def site(
    keys: Keys, name: str, port: int, answer: Callable[[bytes], bytes] = lambda data: data[::-1], limit: int = LIMIT
) -> Iterator[Site]:
    errors: list[FedseError] = []
    stop, told = threading.Event(), Told()

    def work() -> None:
        try:
            serve(
                f"127.0.0.1:{port}",
                authority=keys.folder / "authority.pem",
                private_key=keys.folder / f"{name}.key",
                answer=answer,
                stop=stop,
                told=told,
                limit=limit,
            )
        except FedseError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield Site(stop, thread, told, errors)
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def test_bytes_arrive_unchanged(keys: Keys, told: Told) -> None:
    sent = [b"", b"x", os.urandom(1_000), bytes(10_000_000), os.urandom(10_000_000)]
    with server(keys, told, "a") as runtime, site(keys, "a", runtime.port):
        replies = dict(runtime.ask(("a", data) for data in sent))
        assert [replies[index] for index in range(len(sent))] == [data[::-1] for data in sent]
        assert not nothing_kept(runtime)
    assert told.lines == []


def nothing_kept(runtime: FlowerRuntime) -> list[object]:
    """What Flower still keeps of messages that have ended."""
    post = runtime._post
    stores = (post.object_store.store, post.message_ins_store, post.message_res_store, post._waiting, post._sessions)
    return [store for store in (*stores, post._object_push_sessions) if store]


def test_five_sites_work_side_by_side(keys: Keys, told: Told) -> None:
    names = ["a", "b", "c", "d", "e"]
    together = threading.Barrier(5)

    def answer(data: bytes) -> bytes:
        together.wait(20)
        return data * 2

    with server(keys, told, *names) as runtime, ExitStack() as stack:
        for name in names:
            stack.enter_context(site(keys, name, runtime.port, answer))
        replies = dict(runtime.ask([(name, name.encode()) for name in names], deadline=20))
        assert [replies[index] for index in range(5)] == [b"aa", b"bb", b"cc", b"dd", b"ee"]
        assert set(runtime.heard()) == set(names)
        assert max(runtime.heard().values()) < 20


def test_instructions_are_taken_as_they_are_made_and_replies_given_as_they_come(keys: Keys, told: Told) -> None:
    go_on = threading.Event()

    def slow(data: bytes) -> bytes:
        assert go_on.wait(20)
        return data

    with (
        server(keys, told, "fast", "slow") as runtime,
        site(keys, "fast", runtime.port),
        site(keys, "slow", runtime.port, slow),
    ):
        replies = runtime.ask([("slow", b"1"), ("fast", b"2")])
        assert next(replies) == (1, b"2")
        go_on.set()
        assert list(replies) == [(0, b"1")]


def test_a_deadline_ends_the_wait_and_a_late_reply_is_dropped(keys: Keys, told: Told) -> None:
    go_on = threading.Event()

    def late(data: bytes) -> bytes:
        if data == b"first":
            assert go_on.wait(20)
        return data

    with server(keys, told, "a", "away") as runtime, site(keys, "a", runtime.port, late):
        assert list(runtime.ask([("a", b"first"), ("away", b"?")], deadline=1)) == []
        assert told.lines == ["a: no answer within 1 s", "away: no answer within 1 s"]
        go_on.set()
        assert list(runtime.ask([("a", b"second")], deadline=20)) == [(0, b"second")]
        assert runtime.dropped == 1
        assert not nothing_kept(runtime)


def test_a_site_that_comes_late_gets_its_instruction(keys: Keys, told: Told) -> None:
    with server(keys, told, "a", "b") as runtime, site(keys, "a", runtime.port), ExitStack() as stack:
        replies = runtime.ask([("a", b"1"), ("b", b"2")], deadline=20)
        assert next(replies) == (0, b"1")
        stack.enter_context(site(keys, "b", runtime.port))
        assert list(replies) == [(1, b"2")]


def reason(replies: Iterable[tuple[int, bytes | str]]) -> str:
    """Why the one instruction has no reply."""
    [(index, words)] = replies
    assert index == 0
    assert isinstance(words, str)
    return words


def test_what_a_site_refuses_or_fails_at_is_told_without_its_words(keys: Keys, told: Told) -> None:
    def fail(data: bytes) -> bytes:
        raise MessageError("the secret prompt cannot be read")

    with server(keys, told, "a", "b") as runtime:
        with site(keys, "a", runtime.port, fail) as there:
            assert "MessageError" in reason(runtime.ask([("a", b"1")], deadline=20))
            there.told.wait("secret prompt")
        with site(keys, "b", runtime.port, limit=1_000) as there:
            assert "refuses" in reason(runtime.ask([("b", bytes(200_000))], deadline=20))
            there.told.wait("more than 1000 bytes")
            assert list(runtime.ask([("b", b"12")], deadline=20)) == [(0, b"21")]
    assert [line for line in told.lines if "secret" in line] == []
    assert "MessageError" in told.wait("a: no answer")


def test_a_reply_over_the_limit_is_not_taken_in(keys: Keys, told: Told) -> None:
    with server(keys, told, "a", limit=1_000_000) as runtime:
        with site(keys, "a", runtime.port, lambda data: bytes(10_000_000) if data == b"much" else data) as there:
            assert reason(runtime.ask([("a", b"much")], deadline=20)) == "its reply has more than 1000000 bytes"
            there.told.wait("too large")
            assert list(runtime.ask([("a", b"little")], deadline=20)) == [(0, b"little")]
        assert not nothing_kept(runtime)


def test_an_unknown_key_is_refused(keys: Keys, told: Told) -> None:
    keys.site("stranger")
    with server(keys, told, "a") as runtime, site(keys, "stranger", runtime.port) as there:
        assert "does not accept this site's key" in there.error().what


def test_a_revoked_site_ends_and_is_not_waited_for(keys: Keys, told: Told) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def wait(data: bytes) -> bytes:
        asked.set()
        assert go_on.wait(20)
        return data

    known = {"a": keys.site("a")}
    with server(keys, told, known=known) as runtime:
        with site(keys, "a", runtime.port, wait) as there:
            revoking = threading.Thread(target=lambda: (asked.wait(20), runtime.revoke("a")))
            revoking.start()
            assert reason(runtime.ask([("a", b"1")])) == "its key was revoked"
            go_on.set()
            assert "does not accept" in there.error().what
        assert reason(runtime.ask([("a", b"1")])) == "it is not admitted"
        runtime.admit("a", known["a"])
        with site(keys, "a", runtime.port):
            assert list(runtime.ask([("a", b"12")], deadline=20)) == [(0, b"21")]


def test_a_new_key_takes_the_place_of_the_old_one(keys: Keys, told: Told) -> None:
    with server(keys, told, "a") as runtime, site(keys, "a", runtime.port) as old:
        assert list(runtime.ask([("a", b"12")], deadline=20)) == [(0, b"21")]
        runtime.admit("a", keys.site("a"))
        assert "does not accept" in old.error().what
        with site(keys, "a", runtime.port):
            assert list(runtime.ask([("a", b"12")], deadline=20)) == [(0, b"21")]


def test_two_sites_cannot_have_one_key(keys: Keys, told: Told) -> None:
    key = keys.site("a")
    with pytest.raises(ConfigError, match="the same key"), server(keys, told, known={"a": key, "b": key}):
        pass


@pytest.mark.parametrize("key", [b"", b"no key"])
def test_what_is_no_key_is_refused(keys: Keys, told: Told, key: bytes) -> None:
    with pytest.raises(ConfigError, match="key of site a"), server(keys, told, known={"a": key}):
        pass


def test_another_authority_is_refused(keys: Keys, told: Told, tmp_path: Path) -> None:
    with server(keys, told, "a") as runtime:
        (tmp_path / "other").mkdir()
        other = Keys(tmp_path / "other")
        other.site("a")
        with site(other, "a", runtime.port) as there:
            assert "certificate" in there.error().what


def test_an_expired_certificate_is_refused(keys: Keys, told: Told) -> None:
    keys.certify_server(days=-1)
    with server(keys, told, "a") as runtime, site(keys, "a", runtime.port) as there:
        assert "expired" in there.error().what


@contextmanager
def stranger(keys: Keys, runtime: FlowerRuntime) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=keys.folder / "authority.pem")
    with httpx.Client(base_url=f"https://127.0.0.1:{runtime.port}", verify=context, trust_env=False) as client:
        yield client


def test_only_what_sites_need_can_be_reached(keys: Keys, told: Told) -> None:
    known = {"a": keys.site("a")}
    with server(keys, told, known=known) as runtime, stranger(keys, runtime) as client:
        for path in (
            "control/start-run",
            "control/register-node",
            "runtime/push-messages",
            "fleet/register-node",
            "fleet/unregister-node",
            "fleet/get-fab",
        ):
            for headers in ({}, signed(keys, "a")):
                assert client.post(f"/v1/{path}", content=b"", headers=headers).status_code == 404
        for path in ("/", "/docs", "/openapi.json", "/health", "/v1/fleet/pull-messages"):
            assert client.get(path).status_code == 404
        assert client.post("/v1/fleet/pull-messages", content=b"").status_code == 403


def signed(keys: Keys, name: str, *, age: float = 0) -> dict[str, str]:
    """The headers of a site's request."""
    key = site_end.bytes_to_private_key((keys.folder / f"{name}.key").read_bytes())
    stamp = (site_end.now() - datetime.timedelta(seconds=age)).isoformat()
    return {
        "content-type": "application/protobuf",
        "flwr-public-key": base64.b64encode(site_end.public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": stamp,
        "flwr-signature": base64.b64encode(site_end.sign_message(key, stamp.encode())).decode(),
        "fedse-flower": packing.VERSION,
    }


def test_a_request_over_the_limit_is_refused_before_it_is_read(keys: Keys, told: Told) -> None:
    with server(keys, told, "a") as runtime, stranger(keys, runtime) as client:
        much = bytes(6_000_000)
        for content in (much, iter([much])):  # with its length announced, and without
            answer = client.post("/v1/fleet/push-object", content=content, headers=signed(keys, "a"))
            assert answer.status_code == 413


def test_a_request_without_the_keys_signature_is_refused(keys: Keys, told: Told) -> None:
    with server(keys, told, "a", "b") as runtime, stranger(keys, runtime) as client:

        def status(headers: dict[str, str]) -> int:
            return client.post("/v1/fleet/push-object", content=b"", headers=headers).status_code

        right = signed(keys, "a")
        assert status(right) == 401  # it names no node
        assert status({**right, "fedse-flower": "1.41"}) == 426
        other = signed(keys, "b")
        assert status({**right, "flwr-signature": other["flwr-signature"]}) == 401
        assert status(signed(keys, "a", age=600)) == 401
        assert status({**right, "flwr-signature": "garbage", "fedse-flower": "1.41"}) in (401, 403)
        assert status({**right, "flwr-timestamp": "garbage"}) == 403


def test_a_site_cannot_speak_for_another(keys: Keys, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_end, "HOLD_SECONDS", 0.0)
    with server(keys, told, "a", "b") as runtime, stranger(keys, runtime) as client:
        member = runtime._post.member("b")
        assert member is not None
        node = site_end.Node(node_id=member.node)
        content = site_end.PullMessagesRequest(node=node).SerializeToString()
        headers = signed(keys, "a")
        assert client.post("/v1/fleet/pull-messages", content=content, headers=headers).status_code == 401
        headers = signed(keys, "b")
        assert client.post("/v1/fleet/pull-messages", content=content, headers=headers).status_code == 200


def half(keys: Keys, name: str, port: int, reply: bytes) -> None:
    """Be a site that is killed when it has sent half of its reply."""
    end = _SiteEnd(
        f"127.0.0.1:{port}",
        keys.folder / "authority.pem",
        keys.folder / f"{name}.key",
        threading.Event(),
        print,
        LIMIT,
    )
    end.activate()
    work = end.poll()
    assert work is not None
    parcel = packing.Parcel.of(packing.Message(packing.pack(reply), reply_to=work[0]))
    node = site_end.Node(node_id=end.node)
    answer = end._client.PushMessages(
        site_end.PushMessagesRequest(
            node=node, messages_list=[site_end.message_to_proto(parcel.head)], message_object_trees=[parcel.tree]
        )
    )
    [first, *_] = parcel.objects
    assert first in answer.objects_to_push
    request = site_end.PushObjectRequest(
        node=node,
        run_id=work[0].metadata.run_id,
        object_id=first,
        object_content=parcel.objects[first].deflate(),
        session_id=answer.session_id,
    )
    assert end._client.PushObject(request).stored
    end._client.close()
    end._wire.close()


def test_a_site_that_was_killed_while_it_sent_its_reply_answers_anew(
    keys: Keys, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_end, "_LEASE_SECONDS", 0.0)
    with server(keys, told, "a") as runtime:
        replies: list[tuple[int, bytes]] = []
        asking = threading.Thread(target=lambda: replies.extend(runtime.ask([("a", b"12")], deadline=30)))
        asking.start()
        half(keys, "a", runtime.port, os.urandom(6_000_000))
        with site(keys, "a", runtime.port):
            asking.join(30)
        assert replies == [(0, b"21")]
        assert not nothing_kept(runtime)


def test_replies_wait_at_their_sites_while_the_server_is_busy(
    keys: Keys, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_end, "_MOST_REPLIES", 2)
    names = [f"site-{number}" for number in range(5)]
    with server(keys, told, *names) as runtime, ExitStack() as stack:
        for name in names:
            stack.enter_context(site(keys, name, runtime.port))
        arrived = []
        for reply in runtime.ask([(name, b"12") for name in names], deadline=30):
            time.sleep(0.3)
            assert len(runtime._post.message_res_store) <= 2
            arrived.append(reply)
        assert sorted(arrived) == [(index, b"21") for index in range(5)]


class Line:
    """A network between a site and a server, which can be cut."""

    def __init__(self, port: int) -> None:
        self._there = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._left: float = float("inf")
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size: float) -> None:
        """Let as many bytes through to the server, then none, and refuse who connects."""
        self._left = size

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self._left <= 0:
                    here.close()
                    continue
                there = socket.create_connection(self._there)
                self._ends += [here, there]
                threading.Thread(target=self._carry, args=(here, there, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(there, here, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    self._left -= len(data)
                if self._left <= 0:
                    break
                sink.sendall(data)
        source.close()
        sink.close()

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            end.close()


def test_a_reply_outlasts_a_cut_network(keys: Keys, told: Told) -> None:
    with server(keys, told, "a") as runtime, closing(Line(runtime.port)) as line:
        reply = os.urandom(11_000_000)

        def answer(data: bytes) -> bytes:
            line.cut_after(7_000_000)
            return reply

        with site(keys, "a", line.port, answer) as there:
            replies: list[tuple[int, bytes]] = []
            asking = threading.Thread(target=lambda: replies.extend(runtime.ask([("a", b"12")], deadline=60)))
            asking.start()
            there.told.wait("cannot be reached")
            line.cut_after(float("inf"))
            asking.join(60)
            assert replies == [(0, reply)]
        assert runtime.dropped == 0


def test_nothing_of_a_message_is_logged_or_written(
    keys: Keys,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(1)
    monkeypatch.setenv("FLWR_HOME", str(keys.folder / "flower"))
    with server(keys, told, "a") as runtime, site(keys, "a", runtime.port, lambda data: b"canary" + data) as there:
        assert list(runtime.ask([("a", b"canary")], deadline=20)) == [(0, b"canarycanary")]
    printed = "".join(capfd.readouterr())
    assert "canary" not in caplog.text + printed + "".join(told.lines + there.told.lines)
    assert printed == ""
    assert {path.name for path in keys.folder.iterdir()} == {
        "a.key",
        "authority.pem",
        "server.key",
        "server.pem",
    }


def test_without_flower_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "fedse.federation.runtimes.flower")
    with pytest.raises(ConfigError, match=r"fedse\[flower\]"):
        importlib.import_module("fedse.federation.runtimes.flower")


@pytest.mark.parametrize("address", ["server", "server:", ":8000", "https://server"])
def test_what_is_no_address_is_refused(keys: Keys, address: str) -> None:
    keys.site("a")
    with pytest.raises(ConfigError, match="no address"):
        _SiteEnd(address, keys.folder / "authority.pem", keys.folder / "a.key", threading.Event(), print, LIMIT)


def test_files_that_are_missing_are_named(keys: Keys, told: Told) -> None:
    with pytest.raises(ConfigError, match=r"authority.*cannot be used"):
        _SiteEnd("h:1", keys.folder / "none", keys.folder / "server.key", threading.Event(), print, LIMIT)
    with pytest.raises(ConfigError, match=r"site's key.*cannot be used"):
        _SiteEnd("h:1", keys.folder / "authority.pem", keys.folder / "none", threading.Event(), print, LIMIT)
    (keys.folder / "server.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"server's certificate.*cannot be used"), server(keys, told, "a"):
        pass


def test_a_port_in_use_is_named(keys: Keys, told: Told) -> None:
    with (
        server(keys, told, "a") as runtime,
        pytest.raises(RunError, match="cannot listen"),
        server(keys, told, "a", port=runtime.port),
    ):
        pass


def test_the_server_is_restarted_while_a_site_waits(keys: Keys, told: Told) -> None:
    known = {"a": keys.site("a")}
    with ExitStack() as stack:
        with server(keys, told, known=known) as runtime:
            port = runtime.port
            there = stack.enter_context(site(keys, "a", port))
            assert list(runtime.ask([("a", b"12")], deadline=20)) == [(0, b"21")]
        there.told.wait("cannot be reached")
        with server(keys, told, known=known, port=port) as runtime:
            assert list(runtime.ask([("a", b"34")], deadline=20)) == [(0, b"43")]
        there.told.wait("answers again")


def test_the_server_is_restarted_while_a_site_works(keys: Keys, told: Told) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(data: bytes) -> bytes:
        if data == b"before":
            asked.set()
            assert go_on.wait(20)
        return data

    known = {"a": keys.site("a")}
    with ExitStack() as stack:
        with server(keys, told, known=known) as runtime:
            port = runtime.port
            stack.enter_context(site(keys, "a", port, answer))
            assert list(runtime.ask([("a", b"before")], deadline=1)) == []
            assert asked.is_set()
        with server(keys, told, known=known, port=port) as runtime:
            replies = runtime.ask([("a", b"after")], deadline=20)
            go_on.set()
            assert list(replies) == [(0, b"after")]


def _serve(folder: Path, port: int, ahead: float, reply: bytes) -> None:
    """A site's process, whose clock may be wrong."""
    right = site_end.now
    if ahead:
        from flwr.app.message import message

        wrong = lambda: right() + datetime.timedelta(seconds=ahead)  # noqa: E731
        site_end.now = message.now = wrong

    def answer(data: bytes) -> bytes:
        if reply == b"hang":
            (folder / "hangs").touch()
            time.sleep(60)
        return reply or data

    serve(
        f"127.0.0.1:{port}",
        authority=folder / "authority.pem",
        private_key=folder / "a.key",
        answer=answer,
        stop=threading.Event(),
        told=lambda line: None,
        limit=LIMIT,
    )


@contextmanager
def process(folder: Path, port: int, *, ahead: float = 0, reply: bytes = b"") -> Iterator[BaseProcess]:
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, port, ahead, reply), daemon=True)
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_clocks_may_be_an_hour_apart(keys: Keys, told: Told, ahead: float) -> None:
    with server(keys, told, "a") as runtime, process(keys.folder, runtime.port, ahead=ahead):
        data = os.urandom(6_000_000)
        assert list(runtime.ask([("a", data)], deadline=60)) == [(0, data)]


@pytest.mark.long
def test_a_killed_site_answers_when_it_is_back_and_only_one_process_speaks_for_it(
    keys: Keys, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_end, "_LEASE_SECONDS", 4.0)  # signs of life come every 3 s
    with server(keys, told, "a") as runtime:
        with process(keys.folder, runtime.port, reply=b"hang") as killed:
            replies = runtime.ask([("a", b"1")], deadline=60)
            received: list[tuple[int, bytes]] = []
            asking = threading.Thread(target=lambda: received.extend(replies))
            asking.start()
            while not (keys.folder / "hangs").exists():
                time.sleep(0.05)
            # While it works, nobody else with its key gets its instruction.
            with site(keys, "a", runtime.port, lambda data: b"other") as other:
                other.told.wait("another process speaks for this site")
            killed.kill()
            killed.join()
        with site(keys, "a", runtime.port, lambda data: b"back"):
            asking.join(30)
        assert received == [(0, b"back")]


def test_objects_that_claim_more_than_they_hold_are_refused() -> None:
    parcel = packing.Parcel.of(
        server_end.make_message(
            server_end.Metadata(1, "", 1, 2, "", "", 1.0, 1.0, "train"), packing.pack(os.urandom(1_000_000))
        )
    )
    contents = {name: content.deflate() for name, content in parcel.objects.items()}
    root = parcel.tree.object_id
    assert len(packing.unpack(root, contents, 1_000_000)) == 1_000_000
    with pytest.raises(MessageError, match="more than"):
        packing.unpack(root, contents, 999_999)
    [array] = [name for name, content in contents.items() if content.startswith(b"Array ")]
    for order, what in (("0" + ",0" * 10_000, "more than"), ("7", "no message"), ('"x"', "no message")):
        forged = {**contents, array: contents[array].replace(b"[0]", f"[{order}]".encode())}
        with pytest.raises(MessageError, match=what):
            packing.unpack(root, forged, 5_000_000)
    for name in contents:
        with pytest.raises(MessageError, match="no message"):
            packing.unpack(root, {**contents, name: b"garbage"}, 5_000_000)
        with pytest.raises(MessageError, match="no message"):
            packing.unpack(root, {other: contents[other] for other in contents if other != name}, 5_000_000)


def test_nothing_that_a_server_sends_ends_a_site(keys: Keys, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    right = site_end.message_from_proto
    broken = iter([ValueError, KeyError, AttributeError])

    def sometimes(message: Any) -> Any:
        if error := next(broken, None):
            raise error("what a hostile server has made of it")
        return right(message)

    monkeypatch.setattr(site_end, "message_from_proto", sometimes)
    monkeypatch.setattr(site_end, "_LONGEST_WAIT_SECONDS", 0.1)
    with server(keys, told, "a") as runtime, site(keys, "a", runtime.port) as there:
        assert dict(runtime.ask([("a", b"abc")], deadline=20)) == {0: b"cba"}
        assert there.told.wait("no message: KeyError")
        assert not any("hostile" in line for line in there.told.lines)
