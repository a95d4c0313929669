"""The server's process: listens for sites, does the rounds, and writes them into its folder.

run/server/                  as in a run folder (:mod:`fedse.runs.layout`)
run/server/run_id            tells the run apart from others at the same sites
run/server/server.sock       where ``fedse server status`` asks the process
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedse.config import RunConfig
from fedse.deployment.files import ServerFile, split_address
from fedse.deployment.keys import RENEW_DAYS, check_server, registered_keys
from fedse.errors import ConfigError, FedseError, RunError
from fedse.federation.server import Server, strategy_of
from fedse.processes import interrupted_by_sigterm
from fedse.progress import Listener
from fedse.provenance import software
from fedse.runs.folder import is_at_work, open_server
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.records import read_records
from fedse.sockets import SocketServer, call
from fedse.storage import atomic_write, storage_errors
from fedse.types import RoundRecord

if TYPE_CHECKING:
    from fedse.federation.runtimes.flower.link import FlowerRuntime

_LOOK_SECONDS = 1.0
_QUESTION_BYTES = 64
_ANSWER_BYTES = 2**20
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class ServerStatus:
    """What a server's folder says of its run, and its process, if one is at work.

    Attributes:
        config: the run.
        records: of the rounds so far.
        at_work: a process works in the folder.
        heard: site → seconds since it was last heard of; empty if no process is at work.
        said: what the process last told, latest last.
    """

    config: RunConfig
    records: tuple[RoundRecord, ...]
    at_work: bool
    heard: Mapping[str, float]
    said: tuple[str, ...]


def server_folder(file: ServerFile) -> ServerFolder:
    """Where the server's files lie; the folder above it is what readers take for a run folder."""
    return RunFolder(file.folder).server


def serve_federation(file: ServerFile, *, listener: Listener, told: Callable[[str], None]) -> tuple[RoundRecord, ...]:
    """Do a federation's rounds with sites on machines of their own, or go on with them.

    A finished run returns its records at once.

    Args:
        file: the server's configuration.
        listener: told of progress.
        told: gets lines for the server's operator.

    Returns:
        The records of all rounds.

    Raises:
        ConfigError: if a key or certificate cannot be used, a site has no key, or Flower is not installed.
        RunError: if the folder cannot be used, or the address cannot be listened at.
        FedseError: see :meth:`fedse.federation.server.Server.run`.
    """
    from fedse.federation.runtimes.flower.link import link

    strategy_of(file.run)
    folder = server_folder(file)
    with storage_errors("make", file.folder):
        file.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = check_server(file.certificate, file.private_key, file.authority)
    if left < RENEW_DAYS:
        told(f"the server's certificate expires in {left:.0f} days; renew it with: fedse federation rotate")
    keys, problems = site_keys(file)
    for problem in problems:
        told(problem)
    done = len(read_records(folder))
    if missing := sorted(file.run.sites.keys() - keys.keys()):
        problem = f"no key for site {', '.join(missing)} in {file.keys}"
        if not done or file.run.exchange.deadline is None:  # without a deadline the rounds want everybody
            raise ConfigError(problem, "put the site's public key there as <site>.pub, or take the site out of the run")
        told(f"{problem}: the run goes on without it")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        del said[:-20]
        told(line)

    with ExitStack() as stack:
        stack.enter_context(open_server(file.run, folder, resume=True, sites_change=True, software=software))
        if done > file.run.rounds:
            return read_records(folder)
        stack.enter_context(interrupted_by_sigterm())
        way = stack.enter_context(
            link(
                split_address(file.listen),
                certificate=file.certificate,
                private_key=file.private_key,
                sites=keys,
                limit=file.reply_limit_mb * 10**6,
                told=say,
            )
        )
        stack.enter_context(_watched_keys(file, way, keys, say))

        def status(_: bytes) -> bytes:
            return json.dumps({"heard": way.heard(), "said": said}).encode()

        stack.enter_context(SocketServer(_socket(folder), status, limit=_QUESTION_BYTES))
        Server(file.run, folder, way, listener=listener, run=_run_id(folder), told=say).run()
    return read_records(folder)


def server_status(file: ServerFile) -> ServerStatus:
    """How far the run of a server is, and whom its process has heard of.

    Raises:
        RunError: if the folder is damaged.
    """
    folder = server_folder(file)
    live: dict[str, Any] = {"heard": {}, "said": []}
    at_work = is_at_work(folder.lock)
    if at_work:
        with suppress(RunError):  # it is just beginning, or ending
            live = json.loads(call(_socket(folder), b"status", limit=_ANSWER_BYTES, timeout=_PATIENCE_SECONDS))
    return ServerStatus(file.run, read_records(folder), at_work, live["heard"], tuple(live["said"]))


def site_keys(file: ServerFile) -> tuple[dict[str, bytes], list[str]]:
    """Site of the run → its public key, PEM, without those that have none; and what is wrong with others."""
    keys, problems = registered_keys(file.keys)
    return {site: key for site, key in keys.items() if site in file.run.sites}, [str(problem) for problem in problems]


@contextmanager
def _watched_keys(
    file: ServerFile, way: FlowerRuntime, keys: Mapping[str, bytes], told: Callable[[str], None]
) -> Iterator[None]:
    """Inside, keys that are added, changed or taken away on disk are so in the link."""
    done = threading.Event()

    def watch() -> None:
        known = dict(keys)
        trouble = ""
        while not done.wait(_LOOK_SECONDS):
            try:
                now, _ = site_keys(file)
                for site in [site for site in known if now.get(site) != known[site]]:
                    way.revoke(site)  # all of them first: two sites may have changed keys
                    del known[site]
                    if site not in now:
                        told(f"{site}: its key was taken away; it takes part no more")
                for site, key in now.items():
                    if known.get(site) != key:
                        way.admit(site, key)
                        known[site] = key
                        told(f"{site}: its key is new")
                trouble = ""
            except FedseError as error:  # until it is mended, the keys stay as they are
                if str(error) != trouble:
                    told(str(error))
                trouble = str(error)

    thread = threading.Thread(target=watch, name="fedse-keys", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _run_id(folder: ServerFolder) -> str:
    path = folder.root / "run_id"
    if not path.exists():
        atomic_write(path, secrets.token_hex(16))
    return path.read_text()


def _socket(folder: ServerFolder) -> Path:
    return folder.root / "server.sock"
