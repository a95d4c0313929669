"""Sites that Flower's simulation engine reaches, on this machine."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedse.errors import ConfigError, RunError
from fedse.federation.runtimes import Runtime
from fedse.federation.runtimes.flower.packing import LIFETIME_SECONDS, pack
from fedse.sockets import SocketServer, call

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
            content = pack(data)
            content["to"] = ConfigRecord({"site": site, "host": str(self._host)})
            message = Message(content, self._nodes[site], "train", ttl=LIFETIME_SECONDS)
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
    return Message(pack(call(Path(str(to["host"])), question, limit=_UNLIMITED)), reply_to=message)


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
