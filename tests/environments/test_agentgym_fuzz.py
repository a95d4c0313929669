"""No request breaks a server: 10,000 of them, sound and damaged, at every path, the same ones in every run."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from typing import Any

import pytest

from fedse.environments import environment_names, make
from fedse.environments.agentgym.dialects import DIALECTS, dialect_of
from fedse.environments.agentgym.server import app
from fedse.environments.agentgym.slots import SlotTable
from fedse.environments.serving import Limits
from fedse.seeding import python_random
from helpers.asgi import Asgi

NAMES = sorted(DIALECTS.keys() & set(environment_names()))
REQUESTS = 10_000
EPISODES = 8
LIMITS = Limits(episodes=EPISODES, body_bytes=20_000)
#: What a request may be answered with.
STATUSES = {200, 400, 404, 405, 413, 422, 503}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    -(2**63) - 1,
    10**400,
    0.5,
    1e308,
    "",
    "1",
    "x" * 5000,
    "\x00\n\u202e𝒳",
    [],
    [[[]]],
    {},
    {"id": 1},
]
ACTIONS = ["move up", "crane", "inventory", "get 1 oak log", "search[lamp]", "click[buy now]", "turn left", "go to x 1"]
BODIES = [
    b"",
    b"\xff\xfe",
    b"{",
    b"[" * 5000,
    b'{"id":' * 3000,
    b'{"id": NaN}',
    b'{"id": 1, "id": 2, "action": ""}',
    b'{"id": 0, "action": "\\ud800"}',
    b'{"id": ' + b"9" * 9000 + b"}",
    b"x" * 30_000,
    b"\x00" * 10,
    b'"id"',
    b"null",
]


class Fuzzer:
    """Draws requests to one server."""

    def __init__(self, name: str, rng: random.Random) -> None:
        environment = make(name)
        self.dialect = dialect_of(name)
        self.slots = SlotTable(environment, self.dialect, LIMITS)
        application = app(environment, LIMITS, self.slots)
        self.asgi = Asgi(application)
        self.rng = rng
        self.paths = [route.path for route in application.routes]
        self.reached: set[str] = set()

    def send(self) -> None:
        """One request, and what must hold for its answer."""
        rng = self.rng
        path = rng.choice(self.paths)
        post = path.rpartition("/")[2] in ("create", "reset", "step", "close")
        method = rng.choice(["GET", "POST", "HEAD", "PUT", "OPTIONS", ""]) if rng.random() < 0.05 else None
        if rng.random() < 0.05:
            path = rng.choice([path + "/", path.upper(), path + "\x00", "//", "/..", "", path + "é", "*", path * 50])
        query = b"" if post else self._query()
        body = self._body() if post else b""
        pieces = [body] if len(body) < 2 or rng.random() < 0.8 else [body[:1], b"", body[1:]]
        answer = self.asgi.request(method or ("POST" if post else "GET"), path, query, pieces)
        context = (method, path, query[:200], body[:200], answer)
        assert answer.status in STATUSES, context
        if answer.headers.get("content-type") == "application/json" and method != "HEAD":
            assert answer.json is not ..., context
        assert len(self.slots) <= EPISODES
        if answer.status == 200:
            self.reached.add(path)

    def _slot(self) -> Any:
        open_slots = list(self.slots.numbers())
        return self.rng.choice(open_slots) if open_slots and self.rng.random() < 0.85 else self.rng.choice(ODD)

    def _body(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.15:
            return rng.choice([*BODIES, rng.randbytes(rng.randrange(200))])
        fields = {
            self.dialect.slot: self._slot(),
            self.dialect.number: rng.choice([*range(30), *ODD])
            if rng.random() < 0.9
            else rng.randrange(-(10**6), 10**6),
            "action": rng.choice(ACTIONS) if rng.random() < 0.6 else rng.choice(ODD),
        }
        for field in list(fields):
            if rng.random() < 0.05:
                del fields[field]
        return json.dumps(fields).encode()

    def _query(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.15:
            return rng.choice([b"", b"id", b"id=%", b"id=%ff", b"=&=&;", b"id=1&id=2", rng.randbytes(30)])
        return f"{self.dialect.slot}={str(self._slot())[:4000]}".encode()


@pytest.mark.parametrize("name", NAMES)
def test_any_request_is_answered_and_the_table_of_episodes_stays_bounded(name: str) -> None:
    fuzzer = Fuzzer(name, python_random("fuzz", name))
    slowest = 0.0
    for _ in range(-(-REQUESTS // len(NAMES))):
        began = time.process_time()
        fuzzer.send()
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 2.0
    # Unless sound requests came through, damaged ones would have been turned away at the door.
    assert fuzzer.reached >= set(fuzzer.paths)


@pytest.mark.parametrize("name", [name for name in NAMES if name in ("maze", "textcraft")])
def test_requests_leave_nothing_behind(name: str) -> None:
    fuzzer = Fuzzer(name, python_random("leak", name))
    tracemalloc.start()
    try:
        for _ in range(500):
            fuzzer.send()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            fuzzer.send()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 400_000
