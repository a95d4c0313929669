"""Fault drills: a federation of real processes on this machine, what goes wrong, and what is right in the end.

Each drill is a function of a :class:`Bench`; it fails with an AssertionError or RunError, or returns a line for each
fault: what was done, and what the processes made of it, in their own words.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from fedse.config import RunConfig
from fedse.deployment import keys
from fedse.deployment.files import load_site_file
from fedse.deployment.folders import FederationFolder
from fedse.deployment.local import SERVER, LocalFederation
from fedse.deployment.site import ask_site
from fedse.federation.channel import Channel, read_reply
from fedse.federation.server import strategy_of
from fedse.federation.strategies.averaging import average
from fedse.messages import Update
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.runs.records import read_records
from fedse.runs.rounds import GLOBAL, State, load_state
from fedse.settings import dump_config
from fedse.types import RoundRecord
from helpers.faulty_line import FaultyLine
from helpers.hostile_site import LIES, REPLY_LIMIT_MB
from helpers.subprocesses import HELPERS, environment

#: Seconds that anything but the network's cut may take, on the slowest of machines.
PATIENCE = 150.0
#: Seconds in which a site answers when nothing is wrong; with a deadline below that, rounds would be a matter of luck.
DEADLINE = 20.0


class CannotDrillError(Exception):
    """This machine lacks what the drill needs."""


@dataclass(frozen=True)
class Found:
    """A line of the table.

    Attributes:
        fault: what went wrong.
        done: how it was made to.
        happened: what the processes made of it.
    """

    fault: str
    done: str
    happened: str


def run_config(*sites: str, rounds: int = 3, **exchange: Any) -> RunConfig:
    """Two sites with a random model of two layers: all parts of a run, in seconds."""
    entries = {
        "maze": {"environment": "maze", "options": {"max_path": 4}},
        "wordle": {"environment": "wordle", "options": {"size": 20}},
    }
    clients = [{"name": site, "demonstrations": 2, "episodes_per_round": 2, **entries[site]} for site in sites]
    return RunConfig.model_validate(
        {
            "name": "drill",
            "rounds": rounds,
            "model": {"name": "tiny"},
            "lora": {"rank": 8, "alpha": 16},
            "clients": clients,
            "rollout": {"slots": 2, "max_context": 2048, "max_turns": 2, "max_response_tokens": 8},
            "training": {"steps": 2, "batch_size": 1},
            # Many random episodes succeed in nothing; so that there is something to lose, all are kept.
            "method": {"filter": "none"},
            "evaluation": {"tasks": 1},
            "exchange": exchange,
        }
    )


BOTH = ("maze", "wordle")


@dataclass
class Bench:
    """Where drills are done.

    Attributes:
        folder: for their files; it must be short, or the processes' sockets have no room in it.
        cut_seconds: how long the network is cut.
    """

    folder: Path
    cut_seconds: float = 60.0
    _count: int = 0

    @cached_property
    def whole(self) -> ServerFolder:
        """The server's part of an undisturbed run of both sites in one process."""
        return self._run("whole", run_config(*BOTH))

    @cached_property
    def alone(self) -> ServerFolder:
        """The same of the maze alone, for as many rounds as a hostile site has lies."""
        return self._run("alone", run_config("maze", rounds=len(LIES)))

    def _run(self, name: str, config: RunConfig) -> ServerFolder:
        """In a process of its own, with one thread as the sites have."""
        file = self.folder / f"{name}.yaml"
        file.write_text(dump_config(config))
        command = [sys.executable, "-m", "fedse", "run", "--config", str(file), "--out", str(self.folder / name)]
        subprocess.run([*command, "--quiet"], check=True, env=environment(OMP_NUM_THREADS="1"), capture_output=True)
        return RunFolder(self.folder / name).server

    @contextmanager
    def federation(self, config: RunConfig) -> Iterator[Drilled]:
        """A federation of which no process runs yet."""
        self._count += 1
        home = self.folder / str(self._count)
        with LocalFederation(config, home=home) as local, ExitStack() as stack:
            yield Drilled(local, FederationFolder(home), stack)


@dataclass
class Drilled:
    """A federation that is drilled."""

    local: LocalFederation
    folder: FederationFolder
    stack: ExitStack
    lines: dict[str, FaultyLine] = field(default_factory=dict)

    # What there is.

    @property
    def records(self) -> tuple[RoundRecord, ...]:
        """The rounds so far."""
        return read_records(self.local.server_folder)

    def outcome(self, number: int, site: str) -> str:
        """What became of a site's update in a round."""
        return str(self.records[number].clients[site]["outcome"])

    def log(self, name: str) -> str:
        """All that a side's processes have written."""
        path = self.local.sides[name].log
        return path.read_text(errors="replace") if path.exists() else ""

    def told(self, name: str, pattern: str) -> str:
        """The first line of a side's log with a pattern, without what differs from run to run; waited for."""
        self.until(lambda: re.search(pattern, self.log(name)) is not None, f"{name} says {pattern!r}")
        [line] = [line for line in self.log(name).splitlines() if re.search(pattern, line)][:1]
        line = re.sub(r"^\d\d:\d\d:\d\d ", "", line.strip())
        line = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", line).replace(str(self.folder.root) + "/", "")
        line = re.sub(r"\b[0-9a-f]{12,}\b", "…", line)
        return f"“{line}”"

    # What is done.

    def start(self, *names: str, moment: str = "", clock: int = 0) -> None:
        """Start sides.

        Args:
            names: of the sides.
            moment: when they end or stop themselves; see ``in_process/sitecustomize.py``.
            clock: seconds that their clocks are ahead.
        """
        variables: dict[str, str] = {}
        if moment:
            variables = {"PYTHONPATH": environment(HELPERS / "in_process")["PYTHONPATH"], "DRILL_MOMENT": moment}
        if clock:
            variables |= {"LD_PRELOAD": str(_clock(self.folder.root.parent)), "DRILL_CLOCK": str(clock)}
        for name in names:
            self.local.start(name, **variables)

    def line(self, site: str) -> FaultyLine:
        """Lay a line that can fail between a site and the server; before the site is started."""
        line = self.lines[site] = self.stack.enter_context(FaultyLine(self.local.port))
        file = self.local.sides[site].config
        file.write_text(re.sub(r"(?m)^server: .*$", f"server: 127.0.0.1:{line.port}", file.read_text()))
        return line

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: with all logs, if that takes too long.
        """
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self.local.sides)
                raise AssertionError(f"waited {seconds:g} s for: {what}\n{logs}")
            time.sleep(0.02)

    def ended(self, name: str) -> int:
        """The exit code of a side's process, which is waited for; negative: the signal that ended it."""
        process = self.local.sides[name].process
        assert process is not None
        self.until(lambda: process.poll() is not None, f"the end of {name}")
        return process.returncode

    def stopped(self, name: str) -> None:
        """Wait until a side's process has stopped itself."""
        process = self._process(name)
        self.until(lambda: process.status() == psutil.STATUS_STOPPED, f"{name} stops itself")

    def go_on(self, name: str) -> None:
        """Let a process that has stopped itself go on."""
        self._process(name).send_signal(signal.SIGCONT)

    def _process(self, name: str) -> psutil.Process:
        process = self.local.sides[name].process
        assert process is not None
        return psutil.Process(process.pid)

    def memory_peak(self, name: str) -> int:
        """Bytes that a side's process has had in memory at most."""
        process = self.local.sides[name].process
        assert process is not None
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    # What is right.

    def finish(self, *running: str) -> None:
        """Wait for the server's end; these sites must have outlived it, and nobody may have failed unhandled."""
        self.local.wait(PATIENCE)
        for name in running:
            process = self.local.sides[name].process
            assert process is not None
            assert process.poll() is None, f"{name} ended\n{self.log(name)}"
        for name in self.local.sides:
            assert "Traceback" not in self.log(name), f"{name}\n{self.log(name)}"

    def same_as(self, undisturbed: ServerFolder) -> None:
        """Nothing is lost: all rounds are those of an undisturbed run, the adapters byte for byte."""
        found, expected = self.records, read_records(undisturbed)
        assert list(map(_lasting, found)) == list(map(_lasting, expected))
        for number in range(len(expected)):
            ours, theirs = (folder.global_adapter(number) for folder in (self.local.server_folder, undisturbed))
            for file in theirs.iterdir():
                assert (ours / file.name).read_bytes() == file.read_bytes()

    def made_of(self, number: int, sites: Collection[str]) -> None:
        """A round is the mean of these sites' updates, bit for bit, and of no others."""
        folder = self.local.server_folder
        answered = {site for site in BOTH if self.outcome(number, site) == "ok"}
        assert answered == set(sites), self.records[number].clients
        strategy = strategy_of(self.local.run)
        updates = [kept_update(self.local.run, folder, number, site) for site in sorted(sites)]
        mean = average((1.0, update.adapter) for update in updates)
        before = load_state(folder, number - 1)
        channel = Channel(self.local.run.exchange.codec, folder, strategy)
        expected, _ = channel.rounded(before, State({GLOBAL: mean}))
        assert load_state(folder, number).adapter().digest == expected.adapter().digest

    def explored(self, site: str) -> set[int]:
        """Rounds whose episodes a site has on disk; round 0 is that of the demonstrations."""
        files = self.local.sides[site].data.glob("runs/*/sites/*/trajectories/round-*.jsonl.gz")
        return {int(path.name[6:9]) for path in files}


def kept_update(config: RunConfig, folder: ServerFolder, number: int, site: str) -> Update:
    """A site's update, as the server has kept it."""
    answer = read_reply(strategy_of(config), folder, number, site).answer
    assert isinstance(answer, Update)
    return answer


def _lasting(record: RoundRecord) -> dict[str, Any]:
    """All of a record but times."""

    def timeless(told: Any) -> Any:
        if isinstance(told, dict):
            return {key: timeless(value) for key, value in told.items() if key != "seconds"}
        return told

    return {
        "clients": timeless(record.clients),
        "adapters": (record.adapter, record.adapters),
        "evaluation": record.evaluation,
    }


# --- the drills -----------------------------------------------------------------------------------------------------


def sites_killed(bench: Bench) -> list[Found]:
    """Sites are killed at every kind of work, and started again."""
    with bench.federation(run_config(*BOTH)) as drilled:
        # The initial adapter is the first that it uploads, the update of round 1 the second.
        line = drilled.line("maze")
        line.cut_at_upload(3, lambda: drilled.local.kill("maze"))
        drilled.start(SERVER)
        drilled.start("maze", moment="SIGKILL explore 1")
        drilled.start("wordle", moment="SIGKILL train 1")
        for site in BOTH:
            assert drilled.ended(site) == -signal.SIGKILL
            drilled.start(site)
        assert drilled.ended("maze") == -signal.SIGKILL
        line.mend()
        drilled.start("maze")
        drilled.finish(*BOTH)
        drilled.same_as(bench.whole)
    same = "the instruction was handed out again; adapters, metrics and experience as undisturbed"
    return [
        Found("site killed while exploring", "SIGKILL in the midst of round 1's episodes, then started again", same),
        Found("site killed while training", "SIGKILL between two optimizer steps, then started again", same),
        Found("site killed while uploading", "SIGKILL with a part of its update sent, then started again", same),
    ]


def server_killed(bench: Bench) -> list[Found]:
    """The server is killed at every kind of moment, and started again; the sites are not."""
    with bench.federation(run_config(*BOTH)) as drilled:
        line = drilled.line("wordle")
        line.cut_at_upload(1, lambda: drilled.local.kill(SERVER))
        drilled.start(SERVER, *BOTH)
        assert drilled.ended(SERVER) == -signal.SIGKILL
        line.mend()
        for moment in ("answered 2", "absorbed 2", "recorded 2"):
            drilled.start(SERVER, moment=f"SIGKILL {moment}")
            assert drilled.ended(SERVER) == -signal.SIGKILL
        drilled.start(SERVER)
        drilled.finish(*BOTH)
        drilled.same_as(bench.whole)
        words = drilled.told("wordle", "was restarted")
    return [
        Found(
            "SuperLink killed",
            "SIGKILL of the process that has Flower's Fleet API (the server's own), with a part of an update received",
            f"the site says {words} and waits; round 1 begun again; all as undisturbed",
        ),
        Found(
            "server killed within a round",
            "SIGKILL with one of two updates in; again with the round on disk, but not its record",
            "the sites are asked again and give the same updates; all as undisturbed",
        ),
        Found(
            "server killed between rounds",
            "SIGKILL after the record of round 2",
            "goes on with round 3; all as undisturbed; no site was started again",
        ),
    ]


def network_cut(bench: Bench) -> list[Found]:
    """No byte passes between the sites and the server for some time, beginning in the midst of an upload."""
    with bench.federation(run_config(*BOTH)) as drilled:
        cut: list[float] = []

        def cut_all() -> None:
            for line in drilled.lines.values():
                line.cut()
            cut.append(time.monotonic())

        for site in BOTH:
            drilled.line(site)
        drilled.lines["wordle"].cut_at_upload(2, cut_all)
        drilled.start(SERVER, *BOTH)
        drilled.until(lambda: bool(cut), "the second update of wordle")
        time.sleep(bench.cut_seconds)
        for line in drilled.lines.values():
            line.mend()
        drilled.finish(*BOTH)
        drilled.same_as(bench.whole)
        words = drilled.told("wordle", "answers again|cannot be reached")
    return [
        Found(
            "network cut",
            f"a proxy passes no byte for {bench.cut_seconds:g} s from the midst of an upload on, then drops all",
            f"the site says {words}; its update is sent again; all as undisturbed",
        )
    ]


def clocks_apart(bench: Bench) -> list[Found]:
    """One site's clock is an hour ahead of the server's, the other's an hour behind."""
    with bench.federation(run_config(*BOTH)) as drilled:
        drilled.start("maze", clock=3600)
        drilled.start("wordle", clock=-3600)
        for site, ahead in (("maze", 3600), ("wordle", -3600)):
            file = load_site_file(drilled.local.sides[site].config)
            drilled.until(file.socket.exists, f"{site} listens")
            started = ask_site(file, "status")["started"]
            assert abs(started - time.time() - ahead) < PATIENCE, "the clock was not moved"
        drilled.start(SERVER)
        drilled.finish(*BOTH)
        drilled.same_as(bench.whole)
    return [
        Found(
            "clocks an hour apart",
            "the clock of one site's process is an hour ahead, that of the other's an hour behind",
            "requests are signed with the server's time; all as undisturbed",
        )
    ]


def hostile_replies(bench: Bench) -> list[Found]:
    """A site with a key of its own answers each round with something else than its update, and then honestly."""
    rounds = len(LIES) + 1
    with bench.federation(run_config(*BOTH, rounds=rounds)) as drilled:
        file = drilled.local.sides[SERVER].config
        file.write_text(re.sub(r"(?m)^reply_limit_mb: .*$", f"reply_limit_mb: {REPLY_LIMIT_MB}", file.read_text()))
        drilled.start(SERVER, "maze")
        side = drilled.local.sides["wordle"]
        with side.log.open("ab") as log:
            side.process = subprocess.Popen(
                [sys.executable, str(HELPERS / "hostile_site.py"), str(side.config)],
                env=environment(OMP_NUM_THREADS="1"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        peak = 0

        def watched() -> bool:
            nonlocal peak
            with suppress(FileNotFoundError, AssertionError):
                peak = max(peak, drilled.memory_peak(SERVER))
            return len(drilled.records) > len(LIES)

        drilled.until(watched, "the round after the lies")
        drilled.finish(*BOTH)
        assert peak < 2 * 10**9, f"the server took {peak} bytes"
        ours, alone = drilled.records, read_records(bench.alone)
        assert [record.adapter for record in ours[: len(alone)]] == [record.adapter for record in alone]
        drilled.made_of(rounds, BOTH)
        outcomes = [drilled.outcome(number, "wordle") for number in range(1, rounds)]
        assert all(outcome.startswith(("rejected: ", "no answer: ")) for outcome in outcomes), outcomes
    without = "the round as if the site were not there, bit for bit; its next honest update counts"
    return [
        Found(f"site sends {lie}", f"in the place of its update of round {number}", f"“{outcome}”; {without}")
        for number, (lie, outcome) in enumerate(zip(LIES, outcomes, strict=True), start=1)
    ]


def site_hangs(bench: Bench) -> list[Found]:
    """A site stops in the midst of a round, and goes on when the deadline has passed."""
    rounds = 4
    with bench.federation(run_config(*BOTH, rounds=rounds, deadline=DEADLINE)) as drilled:
        drilled.start("maze")
        drilled.start("wordle", moment="SIGSTOP explore 1")
        _listening(drilled, *BOTH)
        drilled.start(SERVER)
        drilled.stopped("wordle")
        late = drilled.told(SERVER, "wordle: no answer within")
        drilled.go_on("wordle")
        dropped = drilled.told(SERVER, "was dropped")
        drilled.finish(*BOTH)
        assert drilled.outcome(1, "wordle") == "missing"
        drilled.made_of(1, ["maze"])
        drilled.made_of(rounds, BOTH)
        assert drilled.explored("wordle") == {*range(rounds + 1)}, "episodes of the missed round are kept"
    return [
        Found(
            "site hangs past the deadline",
            f"SIGSTOP while exploring, SIGCONT when the deadline of {DEADLINE:g} s has passed",
            f"the round without it (“missing”; {late}); {dropped}; it takes part again, with what it has explored",
        )
    ]


def _listening(drilled: Drilled, *sites: str) -> None:
    for site in sites:
        file = load_site_file(drilled.local.sides[site].config)
        drilled.until(file.socket.exists, f"{site} listens")


def strangers(bench: Bench) -> list[Found]:
    """A wrong key, an expired certificate, and a second process with a key that is in use."""
    with bench.federation(run_config(*BOTH)) as drilled:
        server, wordle = drilled.local.sides[SERVER], drilled.local.sides["wordle"]
        authority = _authority(drilled)
        # A certificate that was good when the server was started, and is not any more when a site calls.
        ends = datetime.now(UTC) + timedelta(seconds=15)
        _certify(drilled, authority, ends)
        drilled.start(SERVER)
        drilled.told(SERVER, "expires in")
        drilled.until(lambda: datetime.now(UTC) > ends, "the end of the certificate")
        drilled.start("maze")
        assert drilled.ended("maze") == 1
        seen = drilled.told("maze", "is not valid")
        drilled.local.stop(SERVER)
        drilled.start(SERVER)
        assert drilled.ended(SERVER) not in (0, None)
        refused = drilled.told(SERVER, "expired")
        _certify(drilled, authority, datetime.now(UTC) + timedelta(days=100))
        drilled.start(SERVER)
        drilled.start("maze", moment="SIGSTOP explore 2")
        key = wordle.folder / "site.key"
        right = key.read_bytes()
        key.write_bytes(keys.new_site_key().private)
        drilled.start("wordle")
        assert drilled.ended("wordle") == 1
        unknown = drilled.told("wordle", "does not accept")
        key.write_bytes(right)
        drilled.start("wordle")
        drilled.stopped("maze")  # round 2 waits for it

        # Another folder with the same key, and another process in the same folder.
        double = server.folder.parent / "double"
        double.mkdir(mode=0o700)
        for name in ("site.yaml", "site.key", "ca.pem"):
            shutil.copy2(wordle.folder / name, double / name)
        drilled.local.sides["double"] = type(wordle)("wordle", double)
        first = wordle.process
        drilled.start("wordle")
        assert drilled.ended("wordle") == 1
        locked = drilled.told("wordle", "another process works")
        wordle.process = first
        drilled.start("double")
        taken = drilled.told("double", "another process speaks")
        drilled.go_on("maze")
        drilled.finish(*BOTH)
        drilled.local.stop("double")
        drilled.same_as(bench.whole)
    return [
        Found(
            "expired certificate",
            "it expires while the server runs; then the server is started with it",
            f"a site that calls ends: {seen}; the server does not start: {refused}; with another certificate all as "
            "undisturbed",
        ),
        Found(
            "wrong key",
            "a site calls with a key of its own making",
            f"it ends: {unknown}; nobody else notices; with its own key it takes part, all as undisturbed",
        ),
        Found(
            "two sites with one name",
            "a second process with the same folder; one with a copy of key and configuration in another folder",
            f"the first ends: {locked}; the second waits: {taken}; all as undisturbed",
        ),
    ]


def site_revoked(bench: Bench) -> list[Found]:
    """A site's key is revoked while it works; with a new one it takes part again."""
    with bench.federation(run_config(*BOTH, rounds=4)) as drilled:
        drilled.start(SERVER)
        drilled.start("wordle", moment="SIGSTOP explore 2")
        drilled.start("maze", moment="SIGSTOP explore 3")
        drilled.stopped("wordle")
        folder = drilled.local.server_file.keys
        folder.rename(folder.with_name("away"))
        unread = drilled.told(SERVER, "cannot read .*sites")
        folder.with_name("away").rename(folder)
        command = [sys.executable, "-m", "fedse", "federation"]
        where = ["--folder", str(drilled.folder.root)]
        subprocess.run([*command, "revoke", "wordle", *where], check=True, capture_output=True)
        drilled.stopped("maze")  # round 2 has gone on without wordle
        assert drilled.outcome(1, "wordle") == "ok"
        drilled.go_on("wordle")
        assert drilled.ended("wordle") == 1
        words = drilled.told("wordle", "does not accept")
        drilled.local.sides["wordle"].config.with_name("site.key").unlink()
        subprocess.run([*command, "add-site", "wordle", *where], check=True, capture_output=True)
        shutil.copy2(drilled.folder.site("wordle") / "site.key", drilled.local.sides["wordle"].folder)
        drilled.told(SERVER, "its key is new")
        drilled.start("wordle")
        drilled.told("wordle", "site wordle: data")
        drilled.go_on("maze")
        drilled.finish(*BOTH)
        drilled.made_of(1, BOTH)
        drilled.made_of(2, ["maze"])
        drilled.made_of(4, BOTH)
        outcome = drilled.outcome(2, "wordle")
        assert "revoked" in outcome, outcome
    return [
        Found(
            "revoked site",
            "fedse federation revoke while the site works; later fedse federation add-site",
            f"the round goes on at once (“{outcome}”); the site ends: {words}; with the new key it takes part again",
        ),
        Found(
            "keys that cannot be read",
            "the folder of the sites' keys is moved away while the server runs, and back before the revocation",
            f"the server says {unread}; nobody is revoked meanwhile, and the revocation is noticed",
        ),
    ]


def site_disk_full(bench: Bench) -> list[Found]:
    """A site's disk is full while it explores, another's while it trains; both have room again later."""
    rounds = 5
    with ExitStack() as stack:
        drilled = stack.enter_context(bench.federation(run_config(*BOTH, rounds=rounds)))
        disks = {site: stack.enter_context(_small_disk(drilled, site)) for site in BOTH}
        line = drilled.line("maze")
        held = threading.Event()
        line.cut_at_upload(3, held.set)  # its update of round 2, so that the round waits
        drilled.start(SERVER)
        drilled.start("wordle", moment="SIGSTOP explore 2")
        drilled.start("maze", moment="SIGSTOP train 3")
        drilled.stopped("wordle")
        disks["wordle"].fill()
        drilled.go_on("wordle")
        words = [drilled.told("wordle", "refused to round of round 2")]
        disks["wordle"].free()
        drilled.until(held.is_set, "the update of maze")
        line.mend()
        drilled.stopped("maze")
        disks["maze"].fill()
        drilled.go_on("maze")
        words += [drilled.told("maze", "refused to round of round 3")]
        disks["maze"].free()
        drilled.finish(*BOTH)
        outcomes = drilled.outcome(2, "wordle"), drilled.outcome(3, "maze")
        assert all(outcome.startswith("refused: Sto") for outcome in outcomes), outcomes
        drilled.made_of(2, ["maze"])
        drilled.made_of(3, ["wordle"])
        drilled.made_of(rounds, BOTH)
        for site in BOTH:
            counted = {0, *(number for number in range(1, rounds + 1) if drilled.outcome(number, site) == "ok")}
            assert drilled.explored(site) >= counted, "episodes of earlier rounds are kept"
        assert 3 in drilled.explored("maze"), "what was explored before the disk was full is kept"
    return [
        Found(
            f"full disk at a site while it {work}",
            "a tmpfs that is filled in the midst of it, and emptied later",
            f"the round without it (“{outcome}”); the site says {said} and stays; it takes part again",
        )
        for work, outcome, said in zip(("explores", "trains"), outcomes, words, strict=True)
    ]


def server_disk_full(bench: Bench) -> list[Found]:
    """The server's disk is full when a round is to be kept."""
    with bench.federation(run_config(*BOTH)) as drilled, _small_disk(drilled, SERVER) as disk:
        drilled.start(SERVER, moment="SIGSTOP answered 2")
        drilled.start(*BOTH)
        drilled.stopped(SERVER)
        disk.fill()
        drilled.go_on(SERVER)
        assert drilled.ended(SERVER) == 1
        words = drilled.told(SERVER, "Error: ")
        disk.free()
        drilled.start(SERVER)
        drilled.finish(*BOTH)
        drilled.same_as(bench.whole)
    return [
        Found(
            "full disk at the server",
            "a tmpfs that is filled when a round has its first update, and emptied later",
            f"the server ends: {words}; started again it goes on; no site was started again; all as undisturbed",
        )
    ]


#: In the order of the table.  The first few take little and show most.
QUICK: tuple[Callable[[Bench], list[Found]], ...] = (server_killed, hostile_replies)
DRILLS: tuple[Callable[[Bench], list[Found]], ...] = (
    sites_killed,
    server_killed,
    site_hangs,
    network_cut,
    hostile_replies,
    strangers,
    site_revoked,
    site_disk_full,
    server_disk_full,
    clocks_apart,
)


# --- what they need -------------------------------------------------------------------------------------------------


def _authority(drilled: Drilled) -> keys.Pair:
    """Make an authority of our own the federation's, whose key the operator's folder does not have any more."""
    authority = keys.new_authority()
    for side in drilled.local.sides.values():
        (side.folder / "ca.pem").write_bytes(authority.public)
    return authority


def _certify(drilled: Drilled, authority: keys.Pair, ends: datetime) -> None:
    file = drilled.local.server_file
    made = keys.new_server_certificate(authority, ["127.0.0.1"], days=100, now=ends - timedelta(days=100))
    file.certificate.write_bytes(made.public)
    file.private_key.write_bytes(made.private)


@dataclass
class _Disk:
    folder: Path

    def fill(self) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@contextmanager
def _small_disk(drilled: Drilled, name: str) -> Iterator[_Disk]:
    """A side's data on a disk of its own, of a few megabytes.

    Raises:
        CannotDrillError: if this process may not mount one.
    """
    folder = drilled.local.sides[name].data
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        raise CannotDrillError("a small disk is mounted by root on Linux only")
    try:
        yield _Disk(folder)
    finally:
        drilled.local.stop_all()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long ahead(void) {
    const char *text = getenv("DRILL_CLOCK");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""


def _clock(folder: Path) -> Path:
    """A library that moves the clock of a process that loads it, for all of its parts, TLS as well as Python.

    Raises:
        CannotDrillError: if there is no C compiler.
    """
    library = folder / "clock.so"
    if not library.exists():
        compiler = shutil.which("cc")
        if sys.platform != "linux" or compiler is None:
            raise CannotDrillError("moving a process's clock takes Linux and a C compiler")
        source = folder / "clock.c"
        source.write_text(_CLOCK)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library
