"""A whole federation on this machine: server and sites as processes of their own, with folders of their own.

For the demonstration, for drills and for measurements: the processes, the files and the wire are those of a deployment.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from fedse.config import RunConfig
from fedse.deployment.files import ServerFile, load_server_file
from fedse.deployment.folders import create
from fedse.errors import RunError
from fedse.runs.layout import RunFolder, ServerFolder

SERVER = "server"

#: ``python -m fedse``, in a process that does not outlive this one.
_PROGRAM = (
    "import runpy; from fedse.processes import end_with; "
    "end_with({parent}); runpy.run_module('fedse', run_name='__main__', alter_sys=True)"
)
_STOPPING_SECONDS = 15.0
_PROBE = 255


@dataclass
class Side:
    """One side of a federation.

    Attributes:
        name: of the site, or :data:`SERVER`.
        folder: with its configuration, keys and data; readable by its owner only.
        address: of the server, as this side reaches it.
        within: what a command begins with to run on this side.
        process: that is at work; None before it was started.
    """

    name: str
    folder: Path
    address: str = "127.0.0.1"
    within: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        """Its file."""
        return self.folder / ("server.yaml" if self.name == SERVER else "site.yaml")

    @property
    def log(self) -> Path:
        """What its process has written."""
        return self.folder / "log"

    @property
    def data(self) -> Path:
        """The folder of what it knows."""
        return self.folder / ("run" if self.name == SERVER else "data")


@dataclass
class LocalFederation:
    """Makes the sides on entering, and leaves no process, network or folder behind.

    Args:
        run: what is to be done.
        home: has the folders, which stay; default: folders that have no parent in common but the system's for
            temporary files, and go in the end.
        threads: of each process's arithmetic.
        networks: give each site a network of its own, from which it reaches the server and nothing else.

    Attributes:
        sides: by name, the server first.
        port: where the server listens.
    """

    run: RunConfig
    home: Path | None = None
    threads: int = 1
    networks: bool = False
    sides: dict[str, Side] = field(default_factory=dict)
    port: int = 0
    _end: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.port = self.port or free_port()
        with ExitStack() as stack:
            self.sides = {SERVER: Side(SERVER, self._folder(stack, SERVER))}
            for number, site in enumerate(self.run.sites):
                own = stack.enter_context(own_network(number)) if self.networks else Network()
                self.sides[site] = Side(site, self._folder(stack, site), own.server, own.within)
            self._deal()
            stack.callback(self.stop_all)
            self._end = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()

    @property
    def server_file(self) -> ServerFile:
        """The server's configuration."""
        return load_server_file(self.sides[SERVER].config)

    @property
    def server_folder(self) -> ServerFolder:
        """The server's part of what readers take for a run folder."""
        return RunFolder(self.sides[SERVER].data).server

    def start(self, name: str, **environment: str) -> None:
        """Start a side's process; again after it has ended.

        Args:
            name: of the side.
            environment: further variables of it.
        """
        side = self.sides[name]
        command = [
            *side.within,
            sys.executable,
            "-c",
            _PROGRAM.format(parent=os.getpid()),
            SERVER if name == SERVER else "site",
            "start",
        ]
        variables = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1"} | environment
        with side.log.open("ab") as log:
            side.process = subprocess.Popen(
                [*command, "--config", str(side.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=side.folder,
                env=variables,
            )

    def start_all(self) -> None:
        """Start every side."""
        for name in self.sides:
            self.start(name)

    def kill(self, name: str) -> None:
        """End a side's process at once, as a power failure does."""
        self._signalled(name, signal.SIGKILL)

    def stop(self, name: str) -> None:
        """Ask a side's process to end, and wait for it."""
        self._signalled(name, signal.SIGTERM)

    def stop_all(self) -> None:
        """End what still runs, sites first."""
        for name in reversed(self.sides):
            self.stop(name)

    def wait(self, seconds: float, *, watch: Callable[[], None] = lambda: None) -> None:
        """Wait until the server has done all rounds.

        Args:
            seconds: to wait at most.
            watch: called several times a second.

        Raises:
            RunError: with the end of the server's log, if it fails or takes longer.
        """
        process = self.sides[SERVER].process
        assert process is not None
        ends = time.monotonic() + seconds
        while process.poll() is None:
            watch()
            if time.monotonic() > ends:
                raise RunError(f"the server is not done after {seconds:g} s:\n{self.log_end(SERVER)}")
            time.sleep(0.1)
        watch()
        if process.returncode:
            raise RunError(f"{SERVER} ended with code {process.returncode}:\n{self.log_end(SERVER)}")

    def check_running(self) -> None:
        """See that no side's process has failed.

        Raises:
            RunError: with the end of its log.
        """
        for name, side in self.sides.items():
            if side.process is not None and side.process.poll():
                raise RunError(f"{name} ended with code {side.process.returncode}:\n{self.log_end(name)}")

    def log_end(self, name: str, lines: int = 15) -> str:
        """The last lines of a side's log."""
        log = self.sides[name].log
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    def _signalled(self, name: str, number: signal.Signals) -> None:
        process = self.sides[name].process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _folder(self, stack: ExitStack, name: str) -> Path:
        if self.home is not None:
            folder = self.home.absolute() / name  # a side works in its own folder
            folder.mkdir(mode=0o700, parents=True)
            return folder
        folder = Path(tempfile.mkdtemp(prefix=f"fedse-{name}-"))
        stack.callback(partial(shutil.rmtree, folder, ignore_errors=True))
        return folder

    def _deal(self) -> None:
        """Make the files as an operator does, and give each side its own."""
        addresses = sorted({side.address for side in self.sides.values()})
        with tempfile.TemporaryDirectory() as scratch:
            made = create(Path(scratch, "federation"), [f"{host}:{self.port}" for host in addresses], self.run)
            for name, side in self.sides.items():
                origin = made.server if name == SERVER else made.site(name)
                for path in origin.iterdir():
                    shutil.move(path, side.folder / path.name)
        for side in [side for side in self.sides.values() if side.name != SERVER]:
            text = side.config.read_text(encoding="utf-8")
            side.config.write_text(
                text.replace(f"server: {addresses[0]}:", f"server: {side.address}:"), encoding="utf-8"
            )


@dataclass(frozen=True)
class Network:
    """How a process is put into a network, and the server's address as seen from there."""

    server: str = "127.0.0.1"
    within: tuple[str, ...] = ()


def has_networks() -> bool:
    """Whether this process may make networks of its own: on Linux, as root, with iproute2."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with own_network(_PROBE):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def own_network(number: int) -> Iterator[Network]:
    """A network namespace with one line, to this machine.

    Raises:
        CalledProcessError, OSError: if the system does not let us.
    """
    tag = f"fedse-{os.getpid()}-{number}"
    ours, theirs = f"fs{os.getpid() % 10**6}-{number}", f"ft{os.getpid() % 10**6}-{number}"
    # Another process with the same addresses would take this one's answers; few have the same last digits.
    subnet = f"10.{100 + os.getpid() % 100}.{number}"
    here, there = f"{subnet}.1", f"{subnet}.2"
    with ExitStack() as stack:
        _ip("netns", "add", tag)
        stack.callback(_ip, "netns", "del", tag)
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", tag)
        stack.callback(_ip, "link", "del", ours)  # at once; with its namespace it would go some time later
        _ip("addr", "add", f"{here}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        inside = ("ip", "netns", "exec", tag)
        commands = (
            ("addr", "add", f"{there}/30", "dev", theirs),
            ("link", "set", theirs, "up"),
            ("link", "set", "lo", "up"),
        )
        for command in commands:
            subprocess.run([*inside, "ip", *command], check=True, capture_output=True)
        yield Network(here, inside)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def free_port() -> int:
    """A port of the loopback interface that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class FollowedLogs:
    """Passes on what is added to files, line by line, with the name of each.

    Args:
        logs: name → file, which need not be there yet.
        line: gets (name, line).
    """

    def __init__(self, logs: Mapping[str, Path], line: Callable[[str, str], None]) -> None:
        self._logs = dict(logs)
        self._line = line
        self._read = dict.fromkeys(logs, 0)

    def __call__(self) -> None:
        """Look for more."""
        for name, path in self._logs.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read[name])
                content = file.read()
            whole = content.rfind(b"\n") + 1
            self._read[name] += whole
            for line in content[:whole].decode(errors="replace").splitlines():
                self._line(name, line)
