"""What a round costs beside the sites' own work: sites as processes of their own, against the same in one process.

    python benchmarks/deployment.py [--sites 5] [--rounds 6] [--rank 8]

The adapters have the shape of SmolLM2-135M's on all linear layers (2.4 million values at rank 8), and travel as they do
by default.  The sites do no work: they send back what they were sent with small changes, and a success rate.  So the
time of a round is that of messages, server and disk.  Every round is evaluated at every site.  The deployment has TLS,
a key for each site, and the server's folder on disk, as ``fedse server start`` has; both ways are measured in this run.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.config import RunConfig
from fedse.deployment.folders import FederationFolder, create
from fedse.deployment.local import free_port
from fedse.deployment.server import site_keys
from fedse.federation.runtimes import InTurns, Runtime
from fedse.federation.runtimes.flower.link import link
from fedse.federation.runtimes.flower.node import serve
from fedse.federation.server import Server
from fedse.messages import Done, Purpose, Rates, Reply, Update
from fedse.progress import Event, Phase
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.sites.channel import SiteChannel

#: Output and input size of the linear layers in each of SmolLM2-135M's thirty blocks (its config.json).
LAYERS = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
BLOCKS = 30
CHANGE = 1e-3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rank", type=int, default=8)
    arguments = parser.parse_args()
    names = [f"site-{number}" for number in range(arguments.sites)]
    clients = [{"name": name, "environment": "maze", "options": {"only": at}} for at, name in enumerate(names)]
    config = RunConfig.model_validate(
        {"rounds": arguments.rounds, "clients": clients, "lora": {"rank": arguments.rank}}
    )
    values = sum(array.size for array in initial(arguments.rank).tensors.values())
    print(f"{arguments.sites} sites, {values / 1e6:.2f} million values, {config.exchange.codec}; seconds of a round:")
    medians = {}
    for way, runtime in (("in one process", together), ("apart", apart)):
        with tempfile.TemporaryDirectory() as folder:
            seconds = rounds(config, Path(folder), runtime)
        medians[way] = statistics.median(seconds)
        print(f"  {way:<16} median {medians[way]:.2f}  ({', '.join(f'{one:.2f}' for one in seconds)})")
    print(f"  apart costs {medians['apart'] - medians['in one process']:.2f} s more a round")


def rounds(config: RunConfig, folder: Path, way: Callable[[RunConfig, Path], Iterator[Runtime]]) -> list[float]:
    """Seconds of each round after the first, in which connections are made."""
    ends: list[float] = []

    def listener(event: Event) -> None:
        if event.phase is Phase.AGGREGATE:
            ends.append(time.monotonic())

    with contextmanager(way)(config, folder) as runtime:
        server = ServerFolder(folder / "server-run")
        server.root.mkdir()
        Server(config, server, runtime, listener=listener, run="0" * 32).run()
    return [after - before for before, after in itertools.pairwise(ends)]


def together(config: RunConfig, folder: Path) -> Iterator[Runtime]:
    """All sites in this process."""
    sites = {name: IdleSite(name, folder / name, config.lora.rank) for name in config.sites}

    class Here(InTurns):
        def answer(self, site: str, data: bytes) -> bytes:
            return sites[site].answer(data)

    yield Here()


def apart(config: RunConfig, folder: Path) -> Iterator[Runtime]:
    """Every site in a process of its own, behind TLS and with a key."""
    port = free_port()
    made = create(folder / "federation", [f"127.0.0.1:{port}"], config)
    file = made.server_file
    context = multiprocessing.get_context("spawn")
    with link(
        ("127.0.0.1", port),
        certificate=file.certificate,
        private_key=file.private_key,
        sites=site_keys(file)[0],
        limit=10**9,
        told=lambda _: None,
    ) as runtime:
        sites = [
            context.Process(target=work, args=(made, name, port, folder / name, config.lora.rank), daemon=True)
            for name in config.sites
        ]
        for process in sites:
            process.start()
        try:
            yield runtime
        finally:
            for process in sites:
                process.kill()


def work(made: FederationFolder, name: str, port: int, folder: Path, rank: int) -> None:
    """A site's process."""
    serve(
        f"127.0.0.1:{port}",
        authority=made.site(name) / "ca.pem",
        private_key=made.site(name) / "site.key",
        answer=IdleSite(name, folder, rank).answer,
        stop=threading.Event(),
        told=lambda _: None,
        limit=10**9,
    )


class IdleSite:
    """Answers at once."""

    def __init__(self, name: str, folder: Path, rank: int) -> None:
        self._noise = np.random.default_rng(list(name.encode()))
        self._initial = initial(rank)
        self._channel = SiteChannel(RunFolder(folder).site(name), partial(initial, rank))

    def answer(self, data: bytes) -> bytes:
        """The reply to an instruction."""
        asked = self._channel.decode(data)
        answer: Done | Update | Rates = Done()
        if asked.purpose is Purpose.INITIAL:
            answer = Update(adapter=self._initial)
        elif asked.purpose is Purpose.EVALUATE:
            answer = Rates(successes=1, episodes=2, errors=0, low=0.1, high=0.9)
        elif asked.purpose is Purpose.ROUND:
            assert asked.adapter is not None
            answer = Update(adapter=self._changed(asked.adapter))
        return self._channel.encode(asked, Reply.to(asked, answer))

    def _changed(self, adapter: AdapterState) -> AdapterState:
        tensors = {
            name: array + CHANGE * self._noise.standard_normal(array.shape, dtype=np.float32)
            for name, array in adapter.tensors.items()
        }
        return AdapterState(tensors, adapter.meta)


def initial(rank: int) -> AdapterState:
    """An adapter as every site makes it."""
    noise = np.random.default_rng(0)
    tensors = {}
    for block in range(BLOCKS):
        for layer, (rows, columns) in LAYERS.items():
            name = f"base_model.model.model.layers.{block}.{layer}"
            tensors[name + SUFFIX_A] = 0.03 * noise.standard_normal((rank, columns), dtype=np.float32)
            tensors[name + SUFFIX_B] = np.zeros((rows, rank), np.float32)
    return AdapterState(tensors, AdapterMeta(rank, 2.0 * rank, tuple(sorted(LAYERS)), "benchmark"))


if __name__ == "__main__":
    main()
