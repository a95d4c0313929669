"""``fedse federation demo``: what a deployment is, seen on one machine from every side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedse.config import RunConfig
from fedse.deployment.local import SERVER, FollowedLogs, LocalFederation, has_networks
from fedse.runs.records import read_records
from fedse.runs.rounds import traffic
from fedse.types import RoundRecord

_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True)
class View:
    """What one side has in the end.

    Attributes:
        name: of the side.
        files: kind of file → (how many, bytes of all).
        sent, received: bytes of updates over all rounds, seen from this side.
    """

    name: str
    files: dict[str, tuple[int, int]]
    sent: int
    received: int


@dataclass(frozen=True)
class Shown:
    """What the demonstration ends with.

    Attributes:
        records: the rounds, as the server has them.
        views: of every side, the server first.
        networks: every site had a network of its own.
    """

    records: tuple[RoundRecord, ...]
    views: tuple[View, ...]
    networks: bool


def demonstrate(run: RunConfig, *, line: Callable[[str, str], None], home: Path | None = None) -> Shown:
    """Run a federation of separate processes with TLS and keys on this machine, and look at it from every side.

    Args:
        run: what is done.
        line: gets (side, line) of what the processes write, as they write it.
        home: has the folders, which stay; default: they go in the end.

    Raises:
        RunError: if a side fails.
    """
    networks = has_networks()
    with LocalFederation(run, home=home, networks=networks) as federation:
        follow = FollowedLogs({name: side.log for name, side in federation.sides.items()}, line)

        def watch() -> None:
            follow()
            federation.check_running()

        federation.start_all()
        federation.wait(_LONGEST_SECONDS, watch=watch)
        federation.stop_all()
        follow()
        folder = federation.server_folder
        crossed = [traffic(folder, number) for number in range(1, run.rounds + 1)]
        down = {site: sum(sizes.get(site, (0, 0))[0] for sizes in crossed) for site in run.sites}
        up = {site: sum(sizes.get(site, (0, 0))[1] for sizes in crossed) for site in run.sites}
        views = [View(SERVER, _kinds(federation.sides[SERVER].data), sum(down.values()), sum(up.values()))]
        views += [View(site, _kinds(federation.sides[site].data), up[site], down[site]) for site in run.sites]
        return Shown(read_records(folder), tuple(views), networks)


def _kinds(folder: Path) -> dict[str, tuple[int, int]]:
    """Kind of file → (how many, bytes of all); kinds are folders' and files' names without rounds."""
    found: dict[str, tuple[int, int]] = {}
    for kind, size in _files(folder):
        count, total = found.get(kind, (0, 0))
        found[kind] = count + 1, total + size
    return dict(sorted(found.items()))


_KINDS = {
    "replies": "what sites sent",
    "global": "adapters",
    "adapters": "adapters",
    "received": "adapters",
    "trajectories": "explored and demonstrated episodes",
    "evaluation": "held-out episodes",
    "experience.sqlite": "experience",
    "metrics.jsonl": "records of rounds",
}


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.rglob("*"):
        kinds = [kind for part in path.relative_to(folder).parts if (kind := _KINDS.get(part))]
        if kinds and path.is_file():
            yield kinds[-1], path.stat().st_size
