"""Flower's simulation on this machine."""

from __future__ import annotations

import os
import sys
import threading

import psutil
import pytest

pytest.importorskip("ray")

from fedse.errors import ConfigError, StoreError
from fedse.federation.runtimes.flower.simulation import simulation


@pytest.mark.long
def test_simulated_sites_answer_and_nothing_stays_behind() -> None:
    sites = [f"site-{number}" for number in range(7)]
    sent = {site: os.urandom(1_000_000) for site in sites}
    turn = threading.Lock()

    def answer(site: str, data: bytes) -> bytes:
        assert turn.acquire(blocking=False)
        with_name = site.encode() + data[::-1]
        turn.release()
        if data == b"full":
            raise StoreError("the disk is full")
        return with_name

    with simulation(sites, answer) as runtime:
        assert processes_of_ray()
        for _ in range(2):
            replies = dict(runtime.ask(sent.items()))
            assert [replies[index] for index in range(7)] == [site.encode() + sent[site][::-1] for site in sites]
        assert list(runtime.ask([("site-3", b"")])) == [(0, b"site-3")]
        assert list(runtime.ask([("site-3", b"12"), ("site-3", b"34")], deadline=0)) == []
        with pytest.raises(StoreError, match="the disk is full"):
            list(runtime.ask([("site-1", b"full"), ("site-2", b"")]))
    assert processes_of_ray() == []


def processes_of_ray() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "raylet" in " ".join(child.cmdline())]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"fedse\[simulation\]"), simulation(["a"], lambda site, data: data):
        pass
