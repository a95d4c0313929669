"""The server's end: the part of Flower's SuperLink that sites need, in the server's process."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from fedse.errors import ConfigError, RunError
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.flower.gate import Gate
from fedse.federation.runtimes.flower.post import Post

#: Seconds of silence after which a site is not asked.  One that takes part is heard of every few seconds, unless it
#: pushes a reply over a slow line.
_SILENT_SECONDS = 90.0


class FlowerRuntime(Runtime):
    """The way to sites on machines of their own.

    Attributes:
        port: where the server listens.
    """

    def __init__(self, post: Post, port: int) -> None:
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
    post = Post(limit, told)
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
        Gate(post),
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
