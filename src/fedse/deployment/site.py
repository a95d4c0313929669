"""A site's process: it holds base model, environments and experience for as long as the site takes part.

The server's instructions come in over the network, an operator's questions over a socket of this machine.  Everything
that the site knows lies in its folder, so that it can be killed at any time and started again.

    site.lock                    held by the process
    errors.log, errors.log.1     why the site refused, in words, which may quote an environment
    runs/<run>/config.yaml       what the site agreed to
    runs/<run>/sites/<site>/     as in a run folder (:mod:`fedse.runs.layout`)
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from fedse.config import RunConfig
from fedse.deployment.files import SiteFile
from fedse.deployment.keys import read_site_key
from fedse.deployment.terms import agreed, at_endpoint
from fedse.errors import FedseError, MessageError, RunError, UnknownRunError
from fedse.messages import Instruction, Purpose, Refused, Reply
from fedse.processes import stopped_by_signals
from fedse.progress import Event, Listener
from fedse.runs.folder import locked
from fedse.runs.identity import run_differences
from fedse.runs.layout import RunFolder
from fedse.settings import dump_config, load_config
from fedse.settings.loading import validated
from fedse.sites.host import SiteHost
from fedse.sockets import SocketServer, call
from fedse.storage import atomic_write, recover_below, storage_errors

_OTHER = "run the same fedse on sites and server"
_ERRORS = "errors.log"
_ERRORS_BYTES = 10**6
_QUESTION_BYTES = 64
_ANSWER_BYTES = 64 * 1024
_PATIENCE_SECONDS = 10.0


class SiteStopped(Exception):
    """The site was told to stop while it was at work; what it has done is kept."""


@dataclass
class SiteStatus:
    """What an operator is told of a site's process; nothing of any message's content.

    Attributes:
        site: its name.
        process: its number.
        started: seconds since the epoch.
        run: that it takes part in.
        doing: purpose and round of the instruction at work; empty while it waits.
        since: seconds since the epoch from when on.
        answered, refused: instructions so far.
        last_error: of what kind the last refusal was, and when.
        link: what the connection last told.
    """

    site: str
    process: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    run: str = ""
    doing: str = ""
    since: float = field(default_factory=time.time)
    answered: int = 0
    refused: int = 0
    last_error: str = ""
    link: str = ""

    def told(self) -> dict[str, Any]:
        """As plain data, with the memory that the process takes, in bytes."""
        return asdict(self) | {"memory": psutil.Process().memory_info().rss}


class SiteService:
    """Answers a server's instructions as a site's own configuration allows.

    Args:
        file: the site's configuration.
        listener: told of progress.
        told: gets lines for the site's operator.

    Attributes:
        stop: set it to end the work; what is done so far is kept.
    """

    def __init__(self, file: SiteFile, *, listener: Listener, told: Callable[[str], None]) -> None:
        self.stop = threading.Event()
        self.status = SiteStatus(file.site)
        self._file = file
        self._listener = listener
        self._say = told
        self._run = ""
        self._host: SiteHost | None = None

    def answer(self, data: bytes) -> bytes:
        """The reply to an instruction; a refusal where the site cannot or will not do it, whatever went wrong.

        Raises:
            MessageError: if these bytes are no instruction to this site.
            SiteStopped: if the site was told to stop meanwhile.
        """
        instruction = Instruction.outline(data)
        if instruction.site != self._file.site:
            raise MessageError(
                f"an instruction to {instruction.site} came to {self._file.site}",
                "give each site the key that was made for it",
            )
        number = f" of round {instruction.round}" if instruction.round else ""
        self._begin(f"{instruction.purpose.value}{number}", instruction.run)
        try:
            host = self._hosting(instruction)
            reply = host.answer(self._file.site, data)
            failure: Exception | None = host.failure
            why = str(failure)
        except SiteStopped:
            raise
        except Exception as error:  # also a fault of ours, or no memory: the site is there for what comes next
            failure, known = error, isinstance(error, FedseError)
            if not known:
                self._host = None  # in whatever state it is; what is done lies in the folder
            why = str(error) if known else traceback.format_exc()
            words = str(error) if known and "errors_in_words" in (self._file.disclose or ()) else ""
            reply = Reply.to(instruction, Refused(reason=_reason(error), words=words)).encode()
        finally:
            self._begin("")
        if failure is None:
            self.status.answered += 1
        else:
            self.status.refused += 1
            self.status.last_error = f"{_reason(failure)} {time.strftime('%Y-%m-%d %H:%M:%S')}"
            self._note(f"{self.status.last_error} {instruction.purpose.value}{number}: {why}")
            self._say(f"refused to {instruction.purpose.value}{number}: {_reason(failure)}; {_ERRORS} says why")
        return reply

    def _note(self, line: str) -> None:
        """Keep what may quote an environment out of logs, which other people may read.

        A server may ask again and again: of long lists the last part is kept, and the one before.
        """
        path = self._file.folder / _ERRORS
        with suppress(OSError):  # a full disk is the error itself
            if path.exists() and path.stat().st_size > _ERRORS_BYTES:
                path.replace(path.with_name(f"{_ERRORS}.1"))
            with path.open("a") as file:
                file.write(line + "\n")

    def question(self, data: bytes) -> bytes:
        """An operator's question: ``status`` or ``stop``; the answer is JSON."""
        if data == b"stop":
            self.stop.set()
        return json.dumps(self.status.told()).encode()

    def _hosting(self, instruction: Instruction) -> SiteHost:
        """The site as it takes part in a run; built when the run begins, and after a restart.

        Raises:
            ConfigError: if the site does not take part in such a run.
            UnknownRunError: if the run is not known here.
            RunError: if it goes on with other settings than it began with.
        """
        folder = RunFolder(self._file.folder / "runs" / (instruction.run or "unnamed"))
        place = folder.root / "config.yaml"
        if instruction.purpose is Purpose.JOIN:
            proposal = validated(RunConfig, dict(instruction.proposal), [], origin="the server's proposal", mend=_OTHER)
            config = agreed(proposal, self._file)
            if place.exists():
                if differing := run_differences(load_config(None, place, []), config):
                    raise RunError(
                        "the run goes on with other settings than it began with at this site:"
                        + "".join(f"\n  - {line}" for line in differing),
                        f"take them back, or begin the run anew without {folder.root}",
                    )
            else:
                atomic_write(place, dump_config(config))
        if self._host is None or self._run != instruction.run:
            if not place.exists():
                raise UnknownRunError(f"run {instruction.run} is not known here", "the server lets the site in anew")
            self._host = None  # one base model at a time
            self._host = self._built(at_endpoint(load_config(None, place, []), self._file), folder)
            self._run = instruction.run
        return self._host

    def _built(self, config: RunConfig, folder: RunFolder) -> SiteHost:
        recover_below(folder.sites)
        return SiteHost(config, folder, listener=self._heard, sites=[self._file.site])

    def _heard(self, event: Event) -> None:
        if self.stop.is_set():
            raise SiteStopped
        self._listener(event)

    def _begin(self, doing: str, run: str = "") -> None:
        self.status.doing, self.status.since = doing, time.time()
        self.status.run = run or self.status.run


def _reason(error: Exception) -> str:
    """The class of an error, as a refusal may tell it: letters only."""
    return re.sub("[^A-Za-z]", "", type(error).__name__)[:64] or "Exception"


def serve_site(file: SiteFile, *, listener: Listener, told: Callable[[str], None]) -> None:
    """Take part in a federation until told to stop; restarts and outages of the server are waited for.

    Args:
        file: the site's configuration.
        listener: told of progress.
        told: gets lines for the site's operator.

    Raises:
        RunError: if another process works in the folder, or the server does not take this site.
        ConfigError: if a key or certificate cannot be used, or Flower is not installed.
        StorageError: if the folder cannot be written.
    """
    from fedse.federation.runtimes.flower.node import serve

    with storage_errors("make", file.folder):
        file.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(locked(file.folder / "site.lock"))
        read_site_key(file.private_key)  # so that a wrong one is told before anything is done
        site = SiteService(file, listener=listener, told=told)
        stack.enter_context(SocketServer(file.socket, site.question, limit=_QUESTION_BYTES))
        stack.enter_context(stopped_by_signals(site.stop))
        stack.enter_context(suppress(SiteStopped))

        def noted(line: str) -> None:
            site.status.link = line
            told(line)

        serve(
            file.server,
            authority=file.authority,
            private_key=file.private_key,
            answer=site.answer,
            stop=site.stop,
            told=noted,
            limit=file.limits.instruction_mb * 10**6,
        )


def ask_site(file: SiteFile, question: str) -> dict[str, Any]:
    """What a site's process says of itself; ``stop`` also tells it to stop.

    Raises:
        RunError: if no process of the site runs.
    """
    answer = call(file.socket, question.encode(), limit=_ANSWER_BYTES, timeout=_PATIENCE_SECONDS)
    return dict(json.loads(answer))
