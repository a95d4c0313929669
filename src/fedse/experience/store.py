"""The experience store: everything a site has learnt from, in one SQLite file that only grows.

Fed-SE accumulates successes over the rounds without limit (arXiv 2512.08870), so nothing is ever changed or deleted:
triggers in the file refuse it.  An episode is stored once; what makes two episodes the same is the store's identity.

The file uses SQLite's rollback journal with ``synchronous = EXTRA``: when :meth:`ExperienceStore.add` returns, its
transaction is on disk to stay; if the process or the machine dies before, it is undone as a whole.  A write-ahead log
would be faster under many writers, which a site does not have, but needs shared memory even for reading, and so fails
on network file systems and in read-only folders.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from fedse.errors import FedseError, StorageError, StoreError
from fedse.experience.identity import Identity, task_and_actions
from fedse.storage import storage_errors
from fedse.texts import parse_json
from fedse.types import Source, StopReason, Trajectory

SCHEMA_VERSION: Final = 1
_APPLICATION_ID: Final = int.from_bytes(b"FdSE", "big")  # tells our files from other SQLite databases
_BUSY_SECONDS: Final = 60.0
_RESTORE: Final = "restore the file from a copy; without one, begin its run anew in another folder"
_SCHEMA: Final = (
    """CREATE TABLE trajectories (
        position INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        round INTEGER NOT NULL,
        source TEXT NOT NULL,
        body BLOB NOT NULL
    ) STRICT""",
    """CREATE TRIGGER no_update BEFORE UPDATE ON trajectories
        BEGIN SELECT RAISE(ABORT, 'the experience store is append-only'); END""",
    """CREATE TRIGGER no_delete BEFORE DELETE ON trajectories
        BEGIN SELECT RAISE(ABORT, 'the experience store is append-only'); END""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_INSERT: Final = "INSERT INTO trajectories (key, round, source, body) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"


@dataclass(frozen=True, slots=True)
class AddReport:
    """What :meth:`ExperienceStore.add` did: episodes stored, and episodes that were there before."""

    added: int
    duplicates: int


class ExperienceStore:
    """The cumulative store of one site.  A context manager; use an instance from the thread that made it.

    Several processes may use one file: writers wait for one another up to a minute.

    Args:
        path: the file; made, with its folders, if it does not exist.
        identity: which episodes are the same; must not change over the life of a file.
        readonly: open an existing file for reading only; nothing on disk is touched.
        create: whether a file that does not exist is made.

    Raises:
        StoreError: if the file is missing (read-only, or not to be made), damaged, no experience store, written by a
            newer fedse, or in use for too long.  The file is left as it is.
        StorageError: if the file cannot be opened or made.
    """

    def __init__(
        self, path: Path, *, identity: Identity = task_and_actions, readonly: bool = False, create: bool = True
    ) -> None:
        self.path = path
        self._identity = identity
        create = create and not readonly
        if not create and not path.exists():
            raise StoreError(f"there is no experience store at {path}", "check the path" if readonly else _RESTORE)
        with storage_errors("make the folder of", path):
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
        with _sqlite_errors(path):
            uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rwc' if create else 'rw'}"
            self._connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with _sqlite_errors(path):
                self._open(create=create)
        except BaseException:
            self._connection.close()
            raise

    def add(self, trajectories: Iterable[Trajectory]) -> AddReport:
        """Append the episodes that are not there yet, in one transaction: all of them or, on any fault, none.

        Raises:
            ValueError: if an episode ended in an infrastructure fault; it has no outcome and enters no store.
            StorageError: if the disk is full or fails; what was stored before is intact.
            StoreError: if the file is damaged, read-only, or in use for too long.
        """
        rows = [(self._identity(trajectory), *_row(trajectory)) for trajectory in trajectories]
        with _sqlite_errors(self.path), self._transaction():
            added = sum(self._connection.execute(_INSERT, row).rowcount for row in rows)
        return AddReport(added, len(rows) - added)

    def trajectories(self, *, rounds: Container[int] | None = None, source: Source | None = None) -> list[Trajectory]:
        """The stored episodes, if so asked of some rounds or one actor alone, in the order in which they were added.

        Raises:
            StoreError: if the file is damaged.
        """
        query = "SELECT position, round, source, body FROM trajectories ORDER BY position"
        with _sqlite_errors(self.path):
            return [
                self._decode(position, body)
                for position, made_in, made_by, body in self._connection.execute(query)
                if (rounds is None or made_in in rounds) and (source is None or made_by == source)
            ]

    def count(self) -> int:
        """How many episodes are stored."""
        with _sqlite_errors(self.path):
            return int(self._value("SELECT count(*) FROM trajectories"))

    def counts_by_round_and_source(self) -> dict[tuple[int, Source], int]:
        """How many episodes each actor added in each round, ordered by round."""
        query = "SELECT round, source, count(*) FROM trajectories GROUP BY round, source ORDER BY round, source"
        with _sqlite_errors(self.path):
            return {(made_in, Source(by)): count for made_in, by, count in self._connection.execute(query)}

    def digest(self) -> str:
        """SHA-256 over the identities in order: stores with equal digests hold the same episodes in the same order."""
        hasher = hashlib.sha256()
        with _sqlite_errors(self.path):
            for (key,) in self._connection.execute("SELECT key FROM trajectories ORDER BY position"):
                hasher.update(key.encode())
        return hasher.hexdigest()

    def close(self) -> None:
        """Close the file.  Safe to call twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, *, create: bool) -> None:
        """Check the file, or fill a new one; a foreign, newer or damaged file is not written to."""
        self._connection.execute("PRAGMA synchronous = EXTRA")
        if create and self._is_empty():
            with self._transaction():
                if self._is_empty():  # still, now that other processes are locked out
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
        if self._value("PRAGMA application_id") != _APPLICATION_ID:
            raise StoreError(f"{self.path} is an SQLite database, but no experience store", "check the path")
        version = self._value("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer fedse (store format {version}; this one knows {SCHEMA_VERSION}); "
                "nothing was changed",
                "upgrade fedse",
            )
        if (verdict := self._value("PRAGMA quick_check(1)")) != "ok":
            raise _damaged(self.path, verdict)

    def _is_empty(self) -> bool:
        """No table and no application id: a new file, or one whose making was cut off."""
        return not self._value("SELECT count(*) FROM sqlite_schema") and not self._value("PRAGMA application_id")

    def _value(self, query: str) -> Any:
        (value,) = self._connection.execute(query).fetchone()
        return value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself rolls back on a full disk
                self._connection.execute("ROLLBACK")
            raise

    def _decode(self, position: int, body: bytes) -> Trajectory:
        try:
            return Trajectory.from_json(parse_json(zlib.decompress(body)))
        except (zlib.error, KeyError, TypeError, ValueError) as cause:
            raise _damaged(self.path, f"record {position}: {cause}") from cause


def _row(trajectory: Trajectory) -> tuple[int, str, bytes]:
    if trajectory.stop is StopReason.ERROR:
        raise ValueError(f"the episode of {trajectory.task} ended in a fault ({trajectory.error}) and has no outcome")
    body = zlib.compress(json.dumps(trajectory.to_json(), separators=(",", ":")).encode())
    return trajectory.round, trajectory.source.value, body


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Attribute SQLite's errors (https://sqlite.org/rescode.html) to the disk, to the file, or to another process."""
    try:
        yield
    except sqlite3.Error as cause:
        raise _explain(path, cause) from cause


def _explain(path: Path, cause: sqlite3.Error) -> FedseError:
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        mend = "open it for writing once, for example by resuming its run: that undoes the unfinished part"
        return StoreError(f"the last write to the experience store {path} was cut off", mend)
    match code & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, str(cause))
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            mend = "free some space on that disk (df -h shows it), check it for faults, then run the same command again"
            return StorageError(f"cannot write the experience store {path}: {cause}; what it held is intact", mend)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            mend = "give yourself read and write permission on the file and its folder"
            return StorageError(f"cannot open the experience store {path}: {cause}", mend)
        case sqlite3.SQLITE_BUSY:
            mend = "wait for the other process, or end it; then run the same command again"
            return StoreError(f"another process has kept the experience store {path} in use for too long", mend)
    return StoreError(f"the experience store {path}: {cause}", _RESTORE)


def _damaged(path: Path, detail: str) -> StoreError:
    return StoreError(f"{path} is damaged or no experience store ({detail}); it was left as it is", _RESTORE)
