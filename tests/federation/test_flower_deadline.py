"""A federation's server that sends its answer byte by byte is late as a whole."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedse.federation.runtimes.flower import node


class Trickle(httpx.SyncByteStream):
    """Four bytes, each after twenty-five seconds of a clock."""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(4):
            self._clock[0] += 25.0
            yield b"x"


@pytest.mark.parametrize(("seconds", "is_late"), [(60.0, True), (200.0, False)])
def test_an_answer_that_trickles_in_is_late_as_a_whole(
    seconds: float, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(node, "_WHOLE_SECONDS", seconds, raising=False)
    monkeypatch.setattr(node.time, "monotonic", lambda: clock[0])
    wire = node._Wire(ssl.create_default_context(), ec.generate_private_key(ec.SECP384R1()), proxies=False)
    answer = httpx.MockTransport(lambda request: httpx.Response(200, stream=Trickle(clock)))
    monkeypatch.setattr(wire, "_client", httpx.Client(transport=answer))
    request = SimpleNamespace(request=httpx.Request("POST", "https://server/fleet"))
    if is_late:
        with pytest.raises(httpx.ReadTimeout, match="as a whole"):
            wire.intercept(request, lambda *_: None)  # type: ignore[arg-type]
    else:
        assert wire.intercept(request, lambda *_: None).content == b"xxxx"  # type: ignore[arg-type]
